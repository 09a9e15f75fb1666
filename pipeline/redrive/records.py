"""Records of a source that were rejected at ingest, read again as the connector would read them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import Chunk, Source
from connectors.dead_letters import DeadLetter
from connectors.errors import BrokerError
from connectors.lanes import LaneMap
from connectors.marks import Resumption, Tail, resume
from connectors.replay import again, rebased
from pipeline.redrive.contents import NotPossibleError

RUNS = 100
"""Deliberate further replays (`weir replay --again`) whose ids are tried."""


class Records:
    """The records of one source that the letters of its ingest stand for.

    A letter alone is not enough: a flow id follows from the whole source and the position in it, so
    the record is read again where it stands.

    Parameters
    ----------
    source : Source, optional
        As it was replayed; letters of any other source cannot be brought back.
    tails : mapping
        What each lane remembers of its sources.
    lane_map : LaneMap
        Where the source's rows go.
    """

    def __init__(self, source: Source | None, tails: Mapping[int, Tail], lane_map: LaneMap) -> None:
        self._tails = tails
        self._lane_map = lane_map
        self._source = source
        self._rows: dict[str, pa.RecordBatch] = {}  # by letter id
        self._why_not: dict[str, str] = {}
        self._runs = {} if source is None else {run.source_id: run for run in _runs(source)}

    def read(self, letters: Iterable[DeadLetter]) -> None:
        """Read the records of all `letters`, each source once."""
        wanted: dict[str, dict[int, str]] = defaultdict(dict)
        for letter in letters:
            if letter.source in self._runs and letter.position is not None:
                wanted[letter.source][letter.position] = letter.id
        for source_id, ids in wanted.items():
            try:
                self._read_source(source_id, ids)
            except BrokerError as error:
                self._why_not.update(dict.fromkeys(ids.values(), str(error)))

    def _read_source(self, source_id: str, ids: Mapping[int, str]) -> None:
        resumption = resume(self._tails, source_id, self._lane_map.id)
        ahead = (
            f"the source goes on at record {resumption.start}: "
            "run its replay again, which reads this record anew"
        )
        self._why_not.update((ids[at], ahead) for at in ids if at >= resumption.start)
        done = {at for at in ids if at < resumption.start}
        for chunk in chunks_with(_shifted(self._runs[source_id], resumption), done):
            self._pick(chunk, ids)

    def _pick(self, chunk: Chunk, ids: Mapping[int, str]) -> None:
        wanted = pa.array(sorted(ids), pa.int64())
        rows = chunk.rows.filter(pc.is_in(chunk.rows.column("position"), value_set=wanted))
        for row, at in enumerate(rows.column("position").to_pylist()):
            self._rows[ids[at]] = rows.slice(row, 1)
        for reject in chunk.rejects:
            if reject.position in ids:
                self._why_not[ids[reject.position]] = f"it would be rejected again: {reject.detail}"

    def rows_of(self, letter: DeadLetter) -> pa.RecordBatch:
        """Return the record of a letter as a batch of one row, as its source gives it today.

        Raises
        ------
        NotPossibleError
            If the source is another, or rejects the record again, or has not come as far yet.
        """
        if self._source is None:
            raise NotPossibleError(
                "its record must be read again: name its source with --source and --data, as for weir replay"
            )
        if letter.source not in self._runs:
            raise NotPossibleError(
                f"it is of source {letter.source or '(none)'}, but {self._source.name} as given is source "
                f"{self._source.source_id}; give the file and the sensor of that replay"
            )
        if letter.id in self._why_not or letter.id not in self._rows:
            missing = "the source has no record there; is it the same file?"
            raise NotPossibleError(self._why_not.get(letter.id, missing))
        return self._rows[letter.id]

    def lanes(self, rows: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of each lane."""
        return self._lane_map.split(rows)


def _runs(source: Source) -> Iterator[Source]:
    yield source
    for run in range(1, RUNS + 1):
        yield again(source, run)


def _shifted(source: Source, resumption: Resumption) -> Source:
    return rebased(source, resumption.shift_us) if resumption.shift_us else source


def chunks_with(source: Source, positions: set[int]) -> Iterator[Chunk]:
    """Yield the chunks of a source from the first to the last of some positions."""
    if not positions:
        return
    last = max(positions)
    for chunk in source.chunks(min(positions)):
        yield chunk
        if chunk.next > last:
            return
