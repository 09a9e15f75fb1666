"""Rows of every record type: anything that the check lets through."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from connectors.records import EARLIEST_US, LATEST_US, TIME, Column, RecordType

MakeRows = Callable[..., pa.RecordBatch]

WORDS = ("tcp", "udp", "icmp", "http", "dns", "ssh", "-", "SF", "S0", "FIN", "INT", "private", "ünknown", "")
HUGE_INTEGERS = np.array([0, 1, 2**31, 2**53 + 1, 2**63 - 1])
HUGE_FLOATS = np.array([0.0, 5e-324, 1e-30, 1.0, 3.5e38, 1e308, np.finfo(float).max])


def _integers(rng: np.random.Generator, n: int) -> npt.NDArray[np.int64]:
    usual = rng.integers(0, 10 ** rng.integers(1, 7), n)
    return np.where(rng.random(n) < 0.2, rng.choice(HUGE_INTEGERS, n), usual)


def _floats(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    return np.where(rng.random(n) < 0.2, rng.choice(HUGE_FLOATS, n), rng.exponential(5.0, n))


def _addresses(rng: np.random.Generator, n: int) -> list[bytes]:
    hosts = [
        b"\0" * 10 + b"\xff\xff" + bytes([a, b, 0, c]) for a in (10, 192, 8) for b in (168, 1) for c in (1, 2)
    ]
    hosts += [b"\xfe\x80" + b"\0" * 13 + b"\1", b"\x20\x01" + b"\7" * 14, b"\0" * 15 + b"\1", b"\xff" * 16]
    return [hosts[i] for i in rng.integers(0, len(hosts), n)]


def _values(column: Column, rng: np.random.Generator, n: int) -> list[object]:
    if column.type == TIME:
        near = 10**15 + rng.integers(0, 10**8, n)
        return np.where(rng.random(n) < 0.1, rng.integers(EARLIEST_US, LATEST_US, n), near).tolist()
    if pa.types.is_string(column.type):
        return _texts(column, rng, n)
    if pa.types.is_floating(column.type):
        return _floats(rng, n).tolist()
    if pa.types.is_fixed_size_binary(column.type):
        return list(_addresses(rng, n))
    return (_integers(rng, n) % (65_536 if column.type == pa.uint16() else 2**63 - 1)).tolist()


def _texts(column: Column, rng: np.random.Generator, n: int) -> list[object]:
    if column.name == "flow_id":
        return [f"f{i}" for i in range(n)]
    if column.name == "sensor":
        return rng.choice(["gate", "gate", "lab"], n).tolist()
    return rng.choice(column.values or [w for w in WORDS if w or column.nullable], n).tolist()


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """Function (record type, n, seed, required) -> n rows that pass its check, wild ones among them."""

    def make(record_type: RecordType, n: int, seed: int, required: tuple[str, ...] = ()) -> pa.RecordBatch:
        rng = np.random.default_rng(seed)
        arrays = []
        for column in record_type.columns:
            values = _values(column, rng, n)
            if column.nullable and column.name not in required:
                values = [None if drop else v for v, drop in zip(values, rng.random(n) < 0.2, strict=True)]
            arrays.append(pa.array(values, column.type))
        return pa.RecordBatch.from_arrays(arrays, schema=record_type.schema)

    return make
