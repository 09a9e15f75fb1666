"""Columns of a checked batch as numpy arrays: the reading side of every feature set."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.features.base import UNKNOWN

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint16]

LARGEST = 3.0e38
"""Greatest magnitude of a feature: what lies beyond is set to it, so that float32 stays finite."""


def numbers(rows: pa.RecordBatch, name: str) -> Floats:
    """Return a numeric column as float64 of magnitude at most `LARGEST`; null reads 0."""
    array = rows.column(name)
    if array.null_count:
        array = pc.fill_null(array, 0)
    values = array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return np.asarray(np.clip(values, -LARGEST, LARGEST))


def whole_numbers(rows: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    """Return a column of counts without null as int64."""
    return np.asarray(rows.column(name).to_numpy(), dtype=np.int64)


def singles(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return numeric and binary features as they travel: float32, finite."""
    n_rows = len(next(iter(columns.values())))
    matrix = np.empty((len(columns), n_rows), dtype=np.float32)
    with np.errstate(over="ignore"):  # what does not fit is infinite, and then cut
        for row, values in zip(matrix, columns.values(), strict=True):
            row[:] = values
    if matrix.max(initial=0.0) > LARGEST or matrix.min(initial=0.0) < -LARGEST:
        np.clip(matrix, -LARGEST, LARGEST, out=matrix)
    return dict(zip(columns, matrix, strict=True))


def codes(rows: pa.RecordBatch, name: str, vocabulary: tuple[str, ...]) -> Codes:
    """Return a text column as codes: i + 1 for `vocabulary[i]`, `UNKNOWN` for the rest and null."""
    found = pc.index_in(rows.column(name), value_set=_value_set(vocabulary))
    index = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
    return np.asarray(index + (UNKNOWN + 1), dtype=np.uint16)


def equals(rows: pa.RecordBatch, name: str, *values: str) -> Mask:
    """Return where a text column has one of `values`; null has none."""
    found = pc.is_in(rows.column(name), value_set=_value_set(values))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)


@cache
def _value_set(values: tuple[str, ...]) -> pa.Array:
    return pa.array(values, pa.string())


def is_null(rows: pa.RecordBatch, name: str) -> Mask:
    """Return where a column is null."""
    array = rows.column(name)
    if not array.null_count:
        return np.zeros(rows.num_rows, dtype=np.bool_)
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def ports(rows: pa.RecordBatch, name: str) -> npt.NDArray[np.int32]:
    """Return a port column as int32; null reads -1."""
    array = rows.column(name).cast(pa.int32())
    if array.null_count:
        array = pc.fill_null(array, -1)
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.int32)


def addresses(rows: pa.RecordBatch, name: str) -> npt.NDArray[np.uint8]:
    """Return an address column as (n, 16) bytes, without a copy; the column holds no null."""
    array = rows.column(name)
    if array.null_count:
        raise ValueError(f"{name} holds {array.null_count} nulls; check the rows with FeatureSet.check first")
    data = array.buffers()[1]
    if data is None or not len(array):
        return np.zeros((0, 16), dtype=np.uint8)
    flat = np.frombuffer(data, dtype=np.uint8, count=16 * len(array), offset=16 * array.offset)
    return flat.reshape(-1, 16)


def times_us(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return `event_time` as microseconds since 1970."""
    return np.asarray(rows.column("event_time").view(pa.int64()).to_numpy(zero_copy_only=False))
