"""The groups of flagged rows, found for a whole message at once: a storm flags every row."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Indices = npt.NDArray[np.int64]

Entity = bytes | str
"""An address (16 bytes), "" for the sensor itself, or publication.OVERFLOW."""

RowKey = tuple[str, Entity, str]
"""Of a group within its bucket and panel: sensor, entity, leading term."""


_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Keyed(Generic[_Key]):
    """The distinct keys of some rows, in order of first appearance, and which one each row has."""

    keys: list[_Key]
    of_row: Indices


def keyed(rows: pa.RecordBatch) -> Keyed[RowKey]:
    """Return the keys of flagged rows: an anomaly concerns the destination or, of all others, the source.

    A pair counts for its source too: one that tries many hosts makes one group, not one a host.
    """
    is_dst = pc.equal(rows.column("about"), "dst")
    entity = pc.if_else(is_dst, rows.column("dst_ip"), rows.column("src_ip"))
    found = _combinations([rows.column("sensor"), entity, rows.column("leading")])
    keys = [(sensor, entity or "", leading) for sensor, entity, leading in found.keys]
    return Keyed(keys, found.of_row)


def keyed_suppressed(rows: pa.RecordBatch) -> Keyed[tuple[str, str]]:
    """Return sensor and suppression of rows that are all suppressed."""
    return _combinations([rows.column("sensor"), rows.column("suppressed")])


def _combinations(columns: list[pa.Array]) -> Keyed[Any]:
    """Return the distinct rows of some columns."""
    parts = [codes(column) for column in columns]
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for part, values in parts:
        code = code * len(values) + part
    first, of_row = in_order(code)
    told = [[values[at] for at in part[first].tolist()] for part, values in parts]
    return Keyed(list(zip(*told, strict=True)), of_row)


def codes(column: pa.Array) -> tuple[Indices, list[str | bytes | int | None]]:
    """Return each row's index into the distinct values, null being one of them, and the values."""
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def in_order(code: Indices) -> tuple[Indices, Indices]:
    """Return where each distinct code appears first, ascending, and each row's index into that.

    Examples
    --------
    >>> first, of_row = in_order(np.array([7, 3, 7, 5]))
    >>> first.tolist(), of_row.tolist()
    ([0, 1, 3], [0, 1, 0, 2])
    """
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return np.sort(first), rank[inverse.reshape(-1)]


def nth(groups: Indices) -> Indices:
    """Return how many rows of the same group stand before each row.

    Examples
    --------
    >>> nth(np.array([4, 9, 4, 4, 9])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    at = np.arange(groups.size)
    begins = np.ones(groups.size, dtype=np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    found = np.empty(groups.size, dtype=np.int64)
    found[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    return found


def spans(buckets: Indices) -> Iterator[tuple[int, int, int]]:
    """Yield (bucket, begin, end) of each run of equal buckets.

    Examples
    --------
    >>> list(spans(np.array([5, 5, 6])))
    [(5, 0, 2), (6, 2, 3)]
    """
    borders = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), buckets.size]
    for begin, end in pairwise(borders):
        if begin < end:
            yield int(buckets[begin]), begin, end
