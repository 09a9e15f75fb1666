"""What a mapping can fill: the columns, their units, and how each is read."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from connectors.json_paths import Path_
from connectors.json_values import Scale, Values
from connectors.records import CONN

COLUMNS = (*(column.name for column in CONN.columns if column.name != "position"), "start_time", "tcp_flags")
"""What can be mapped: conn@1, and two columns from which others can be derived."""

TEXTS = ("sensor", "flow_id", "protocol", "label", "service", "state")

_ISO = ("iso8601", "iso8601-utc")
_EPOCHS: Mapping[str, Scale] = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
_DURATIONS: Mapping[str, Scale] = {
    "s": (1, 1),
    "ms": (1, 1000),
    "us": (1, 1_000_000),
    "ns": (1, 1_000_000_000),
    "minutes": (60, 1),
}
_SIZES: Mapping[str, Scale] = {
    "bytes": (1, 1),
    "bits": (1, 8),
    "kB": (1000, 1),
    "KiB": (1024, 1),
    "MB": (1000**2, 1),
    "MiB": (1024**2, 1),
}

UNITS: Mapping[str, tuple[str, ...]] = {
    "event_time": (*_EPOCHS, *_ISO),
    "start_time": (*_EPOCHS, *_ISO),
    "duration": tuple(_DURATIONS),
    "src_bytes": tuple(_SIZES),
    "dst_bytes": tuple(_SIZES),
    "src_packets": ("packets",),
    "dst_packets": ("packets",),
    "tcp_flags": ("number", "hex"),
}
"""Units that a column can be given in; the first one is meant where none is said."""

MUST_SAY = ("event_time", "start_time", "duration")
"""Columns whose unit cannot be guessed."""


def read(values: Values, name: str, path: Path_, unit: str) -> pa.Array:
    """Return one column as it stands at one path, shape (n,), null where there is nothing.

    Times are int64, microseconds since 1970.
    """
    return _READERS.get(name, _text)(values, path, unit)


def _text(values: Values, path: Path_, _unit: str) -> pa.Array:
    return values.text(path)


def _time(values: Values, path: Path_, unit: str) -> pa.Array:
    if unit in _ISO:
        return values.iso8601(path, utc=unit == "iso8601-utc")
    return values.epoch(path, _EPOCHS[unit])


def _size(values: Values, path: Path_, unit: str) -> pa.Array:
    return values.count(path, _SIZES[unit or "bytes"])


_READERS: Mapping[str, Callable[[Values, Path_, str], pa.Array]] = {
    "event_time": _time,
    "start_time": _time,
    "duration": lambda values, path, unit: values.number(path, _DURATIONS[unit]),
    "src_bytes": _size,
    "dst_bytes": _size,
    "src_packets": lambda values, path, _: values.count(path),
    "dst_packets": lambda values, path, _: values.count(path),
    "tcp_flags": lambda values, path, unit: values.flags(path, hexadecimal=unit == "hex"),
    "src_port": lambda values, path, _: values.port(path),
    "dst_port": lambda values, path, _: values.port(path),
    "src_ip": lambda values, path, _: values.address(path),
    "dst_ip": lambda values, path, _: values.address(path),
}
