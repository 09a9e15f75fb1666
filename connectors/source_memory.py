"""A source of rows that are in memory already: for tests, examples and benchmarks."""

import hashlib
from collections.abc import Iterator, Sequence

import pyarrow as pa

from connectors.base import ROWS_PER_CHUNK, Chunk, Reject
from connectors.records import CONN, RecordType
from connectors.wire import encode


class MemorySource:
    """Rows given as a batch, with rejects between them.

    Parameters
    ----------
    rows : RecordBatch
        Good rows with the columns of `record_type`; `position` is filled in.
    rejects : sequence of Reject
        Each takes its position, and the rows take those that are left.
    """

    name = "memory"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        rows: pa.RecordBatch,
        *,
        record_type: RecordType = CONN,
        rejects: Sequence[Reject] = (),
        source_id: str | None = None,
    ) -> None:
        self.record_type = record_type
        self.n_records: int | None = rows.num_rows + len(rejects)
        self._rejects = {reject.position: reject for reject in rejects}
        self._positions = [at for at in range(self.n_records) if at not in self._rejects]
        index = rows.schema.get_field_index("position")
        self._rows = rows.set_column(index, rows.schema.field(index), pa.array(self._positions, pa.int64()))
        content = encode(self._rows) + repr(sorted(self._rejects)).encode()
        self.source_id = source_id or hashlib.blake2b(content, digest_size=10).hexdigest()

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        n_records = self.n_records or 0
        for first in range(start, n_records, rows):
            following = min(first + rows, n_records)
            rejects = tuple(self._rejects[at] for at in range(first, following) if at in self._rejects)
            at = first - sum(position < first for position in self._rejects)
            n_rows = following - first - len(rejects)
            yield Chunk(rows=self._rows.slice(at, n_rows), first=first, next=following, rejects=rejects)
