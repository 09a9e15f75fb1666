"""What every source of flow records promises."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa

from connectors.records import RecordType

ROWS_PER_CHUNK = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A piece of a source that is no record, with its bytes as they stood there."""

    position: int  # index of the record in its source, from 0
    raw: bytes
    reason: str  # short snake_case word, the same for every record with this fault
    detail: str  # one sentence: what was found, what was expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive records of a source: the good ones as a batch, the bad ones as rejects.

    `rows` has the schema of the source's record type, with `position` filled. Every position in
    [first, next) is that of at most one row or reject, both in order of position; what has neither
    holds no flow: a header line, an event of another kind, an offset without a message.
    """

    rows: pa.RecordBatch
    first: int  # position of the first record covered
    next: int  # position *after* the last record covered: where a reader resumes
    rejects: tuple[Reject, ...] = ()


@runtime_checkable
class Source(Protocol):
    """A file, generator or live feed of flow records, read in order from any position.

    Reading twice gives the same bytes, the same flow ids and the same order. Memory does not grow
    with the size of the source. A live source goes on without an end, and yields a chunk that covers
    nothing now and then while nothing comes, so that its reader can see to other things.
    """

    name: str
    """Kind of source, as the commands name it: nsl-kdd, unsw-nb15, synthetic ..."""

    record_type: RecordType

    source_id: str
    """Stable identity of the content (not of the path): the same file gives the same id."""

    n_records: int | None
    """How many positions there are, where that is known without reading everything."""

    notes: tuple[str, ...]
    """What a reader must know: for example, that event times are synthetic."""

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A live source that counts what else happens to it: datagrams, gaps, losses."""

    def counters(self) -> dict[str, int]:
        """Return what was counted since it was opened, by name."""
        ...
