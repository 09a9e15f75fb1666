"""The flows that the benchmarks bring into the log: read once, then repeated under other ids and times."""

import hashlib
from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import ROWS_PER_CHUNK, Chunk, Source
from connectors.sources import Generated, open_source

FEATURE_SETS = {"synthetic": "conn", "nsl-kdd": "nsl-kdd"}
SATURDAY = date(2026, 3, 7)
DAY_US = 86_400_000_000

_AGAIN = "where more are needed it is repeated with ids of its own and later times. One sensor, one lane."
PROTOCOL = {
    "synthetic": "Traffic: five working days of a generated office without attacks and a Saturday with every "
    f"kind of attack, 0.5 million flows; {_AGAIN}",
    "nsl-kdd": f"Traffic: the training part of NSL-KDD, 126 thousand flows; {_AGAIN}",
}


def _sources(dataset: str) -> list[Source]:
    if dataset != "synthetic":
        return [open_source(dataset, part="train")]
    quiet = Generated(seed=1, days=5, attacks=False)
    return [
        open_source("synthetic", generated=quiet),
        open_source("synthetic", generated=Generated(seed=1, days=1, start=SATURDAY)),
    ]


class Repeated:
    """A dataset as a source of any length, held in memory so that reading it costs little.

    Record p is record p modulo n of the dataset of n; its lap enters the flow id and shifts its time by
    whole weeks, so that no window reaches from one lap into the next.
    """

    def __init__(self, dataset: str, n_records: int) -> None:
        sources = _sources(dataset)
        batches = [chunk.rows for source in sources for chunk in source.chunks()]
        self._rows = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
        times = self._rows.column("event_time").cast(pa.int64())
        self._period_us = ((times[-1].as_py() - times[0].as_py()) // (7 * DAY_US) + 1) * 7 * DAY_US
        self.name = sources[0].name
        self.record_type = sources[0].record_type
        identity = ",".join(source.source_id for source in sources)
        self.source_id = hashlib.blake2b(f"repeated,{identity}".encode(), digest_size=10).hexdigest()
        self.n_records: int | None = n_records
        self.notes: tuple[str, ...] = (PROTOCOL[dataset],)
        self._end = n_records

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        while start < self._end:
            lap, at = divmod(start, self._rows.num_rows)
            part = self._rows.slice(at, min(rows, self._end - start))
            yield Chunk(rows=self._shifted(part, lap, start), first=start, next=start + part.num_rows)
            start += part.num_rows

    def _shifted(self, rows: pa.RecordBatch, lap: int, start: int) -> pa.RecordBatch:
        times = pc.add(rows.column("event_time").cast(pa.int64()), lap * self._period_us)
        changed = {
            "event_time": times.cast(rows.schema.field("event_time").type),
            "flow_id": pc.binary_join_element_wise(rows.column("flow_id"), f"{lap}", "-"),
            "position": pa.array(range(start, start + rows.num_rows), pa.int64()),
        }
        columns = [changed.get(name, rows.column(name)) for name in rows.schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=rows.schema)
