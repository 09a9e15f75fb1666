"""Rows of one lane gathered into messages of a bounded number of rows and bytes."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from connectors.wire import encode

_SCHEMA_BYTES = 8192
"""Room for the schema and the padding of an Arrow stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """The body of a flows message, and what its headers will say."""

    value: bytes
    rows: int
    first: int  # source position of its first row
    next: int  # position after its last row
    latest_us: int  # greatest event time in it


class LaneBuffer:
    """Gathers rows until a message is full.

    Parameters
    ----------
    rows, size_bytes : int
        A message is full with this many rows, or when its body would exceed this size.
    """

    def __init__(self, *, rows: int, size_bytes: int) -> None:
        self._max_rows = rows
        self._size_bytes = size_bytes
        self._batches: list[pa.RecordBatch] = []
        self._n_rows = 0
        self._n_bytes = 0
        self.since = 0.0  # when the oldest row came

    def __len__(self) -> int:
        return self._n_rows

    @property
    def first(self) -> int:
        """Position of the oldest row."""
        return _position(self._batches[0], 0)

    def add(self, rows: pa.RecordBatch, now: float) -> None:
        """Take in rows that follow those taken before."""
        if not self._batches:
            self.since = now
        self._batches.append(rows)
        self._n_rows += rows.num_rows
        self._n_bytes += rows.nbytes

    def take(self, now: float, *, everything: bool = False) -> list[Packed]:
        """Return the messages that are full, or all rows in messages; the others stay."""
        full = self._n_rows >= self._max_rows or self._n_bytes >= self._size_bytes
        if not self._n_rows or not (full or everything):
            return []
        rows = joined(self._batches)
        each = self._rows_each(rows)
        n_cut = rows.num_rows if everything else rows.num_rows // each * each
        packed = [
            message
            for start in range(0, n_cut, each)
            for message in pack(rows.slice(start, min(each, n_cut - start)), self._size_bytes)
        ]
        self._batches, self._n_rows, self._n_bytes = [], 0, 0
        if n_cut < rows.num_rows:
            self.add(rows.slice(n_cut), now)
        return packed

    def _rows_each(self, rows: pa.RecordBatch) -> int:
        room = max(self._size_bytes - _SCHEMA_BYTES, 1)
        fit: int = room * rows.num_rows // max(rows.nbytes, 1)
        return max(1, min(self._max_rows, fit))


def joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return batches of one schema as one batch."""
    if len(batches) == 1:
        return batches[0]
    batch: pa.RecordBatch = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    return batch


def pack(rows: pa.RecordBatch, size_bytes: int) -> Iterator[Packed]:
    """Yield `rows` as messages of at most `size_bytes`, halved until they fit; one row always goes."""
    value = encode(rows)
    n = rows.num_rows
    if len(value) > size_bytes and n > 1:
        yield from pack(rows.slice(0, n // 2), size_bytes)
        yield from pack(rows.slice(n // 2), size_bytes)
        return
    yield Packed(
        value=value,
        rows=n,
        first=_position(rows, 0),
        next=_position(rows, n - 1) + 1,
        latest_us=pc.max(rows.column("event_time").cast(pa.int64())).as_py(),
    )


def _position(rows: pa.RecordBatch, index: int) -> int:
    position: int = rows.column("position")[index].as_py()
    return position
