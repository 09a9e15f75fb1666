"""A source replayed at another time: once more under new ids, or shifted under the same ones."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import ROWS_PER_CHUNK, Chunk, Reject, Source
from connectors.errors import SourceError
from connectors.records import LATEST_US, TIME
from connectors.wire import encode


def again(source: Source, run: int, shift_us: int = 0) -> Source:
    """Return `source` as new flows: the run number enters every id, and times are shifted.

    The same run gives the same ids again, so an interrupted second replay can be resumed.
    """
    if run < 1:
        raise SourceError(f"run is {run}, expected 1 or more: run 0 is the first replay")
    return _Replayed(source, run=run, shift_us=shift_us)


def rebased(source: Source, shift_us: int) -> Source:
    """Return `source` under its own ids with `shift_us` microseconds added to every event time."""
    return _Replayed(source, run=0, shift_us=shift_us)


class _Replayed:
    """A source with shifted times and, for a run above 0, ids of its own.

    A row whose shifted time is absurd becomes a reject that holds the row as an Arrow stream: the
    bytes it had in the file are good.
    """

    def __init__(self, source: Source, *, run: int, shift_us: int) -> None:
        if abs(shift_us) >= LATEST_US:
            raise SourceError(f"times shifted by {shift_us} us all lie outside 1970-2099; shift by less")
        self.name = source.name
        self.record_type = source.record_type
        self.n_records = source.n_records
        self.source_id = _run_id(source.source_id, run) if run else source.source_id
        self.notes = (*source.notes, *_notes(run, shift_us))
        self._source = source
        self._run = run
        self._shift_us = shift_us

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        for chunk in self._source.chunks(start, rows=rows):
            yield self._shifted(chunk)

    def _shifted(self, chunk: Chunk) -> Chunk:
        batch = chunk.rows
        times = pc.add(batch.column("event_time").cast(pa.int64()), self._shift_us).cast(TIME)
        batch = _with_column(batch, "event_time", times)
        if self._run:
            ids = pc.binary_join_element_wise(batch.column("flow_id"), f"r{self._run}", "-")
            batch = _with_column(batch, "flow_id", ids)
        checked = self.record_type.check(batch)
        rejects = [*chunk.rejects]
        for bad in checked.bad:
            position = batch.column("position")[bad.index].as_py()
            raw = encode(batch.slice(bad.index, 1))
            rejects.append(Reject(position=position, raw=raw, reason=bad.reason, detail=bad.detail))
        rejects.sort(key=lambda reject: reject.position)
        return replace(chunk, rows=checked.rows, rejects=tuple(rejects))


def _with_column(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, batch.schema.field(index), values)


def _run_id(source_id: str, run: int) -> str:
    return hashlib.blake2b(f"{source_id},r{run}".encode(), digest_size=10).hexdigest()


def _notes(run: int, shift_us: int) -> tuple[str, ...]:
    shift = f"Event times are shifted by {np.timedelta64(shift_us, 'us')}." if shift_us else ""
    once_more = f"Run {run}: the flows of an earlier replay once more, under ids of their own." if run else ""
    return tuple(note for note in (once_more, shift) if note)
