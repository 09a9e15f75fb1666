"""Records of one template as columns of conn@1."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.flow_states import Mask
from connectors.netflow.rows import Bytes, Ints, View
from connectors.netflow.states import Seen, states
from connectors.netflow.templates import (
    APPLICATION_NAME,
    DST_BYTES,
    DST_PACKETS,
    OUT_BYTES,
    OUT_PACKETS,
    SRC_BYTES,
    SRC_PACKETS,
    Key,
)
from connectors.netflow.times import Clock, spans
from connectors.protocols import PROTOCOL_NAMES
from connectors.records import ADDRESS, TIME

ALL = -1
"""In place of a sampler's number: the interval holds for every record of the exporter."""

Intervals = tuple[tuple[int, int], ...]
"""Sampling: pairs of sampler and packets for each one that it looked at; none: every packet."""

PROTOCOLS = pa.array([PROTOCOL_NAMES.get(number, str(number)) for number in range(256)], pa.string())
_WITH_PORTS = (6, 17, 33, 132, 136)

_MOST = float(1 << 62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What datagrams and options say about records, beside their fields."""

    clock: Clock
    intervals: Intervals


def columns(view: View, context: Context) -> dict[str, pa.Array]:
    """Return the columns of conn@1 but for sensor, flow_id and position, each with n values."""
    interval = _intervals(view, context.intervals)
    protocol = _number_or(view, (0, 4), -1)
    counters = _counters(view, interval)
    answered = _answered(counters, view.n)
    end, duration = spans(view, context.clock)
    source, destination = view.addresses()
    seen = Seen(protocol=protocol, answered=answered, sampled=interval > 1)
    return {
        "event_time": pa.array(end, TIME),
        "src_ip": _addresses(source),
        "dst_ip": _addresses(destination),
        "src_port": _ports(view, protocol, ((0, 7), (0, 180), (0, 182))),
        "dst_port": _ports(view, protocol, ((0, 11), (0, 181), (0, 183))),
        "protocol": PROTOCOLS.take(pa.array(protocol & 0xFF, mask=(protocol < 0) | (protocol > 255))),
        "duration": pa.array(duration / 1e6),
        "src_bytes": _sent(counters["src_bytes"], view.n),
        "dst_bytes": _received(counters["dst_bytes"], answered, view.n),
        "src_packets": _sent(counters["src_packets"], view.n),
        "dst_packets": _received(counters["dst_packets"], answered, view.n),
        "service": _service(view),
        "state": states(view, seen),
    }


def _intervals(view: View, intervals: Intervals) -> Ints:
    """Return how many packets each one that was looked at stands for, shape (n,).

    The record says so itself, or names its sampler, or there is one interval for all.
    """
    own = view.number((0, 34))
    if own is not None:
        return np.maximum(own, 1)
    sampler = view.number((0, 48), (0, 302))
    interval = np.full(view.n, dict(intervals).get(ALL, 1), np.int64)
    if sampler is not None:
        for number, packets in intervals:
            interval[sampler == number] = packets
    return interval


def _counters(view: View, interval: Ints) -> dict[str, Ints | None]:
    """Return bytes and packets each way; None: records do not say.

    What was counted behind the exporter (elements 23 and 24) is read where it stands alone: beside
    the usual counters it is the same traffic again, not the answer.
    """
    found = {
        "src_bytes": view.number(*SRC_BYTES, OUT_BYTES),
        "src_packets": view.number(*SRC_PACKETS, OUT_PACKETS),
        "dst_bytes": view.number(*DST_BYTES),
        "dst_packets": view.number(*DST_PACKETS),
    }
    return {name: _scaled(values, interval) for name, values in found.items()}


def _scaled(values: Ints | None, interval: Ints) -> Ints | None:
    """Multiply counters by their sampling interval; what does not fit is negative, and refused."""
    if values is None or not (interval > 1).any():
        return values
    return np.where(values.astype(np.float64) * interval > _MOST, -1, values * interval)


def _answered(counters: Mapping[str, Ints | None], n: int) -> Mask | None:
    back = [values for name in ("dst_bytes", "dst_packets") if (values := counters[name]) is not None]
    if not back:
        return None
    answered = np.zeros(n, np.bool_)
    for values in back:
        answered |= values != 0
    return answered


def _sent(values: Ints | None, n: int) -> pa.Array:
    return pa.array(np.zeros(n, np.int64) if values is None else values)


def _received(values: Ints | None, answered: Mask | None, n: int) -> pa.Array:
    if values is None or answered is None:
        return pa.nulls(n, pa.int64())
    return pa.array(values, mask=~answered)


def _number_or(view: View, key: Key, default: int) -> Ints:
    values = view.number(key)
    return np.full(view.n, default, np.int64) if values is None else values


def _ports(view: View, protocol: Ints, keys: tuple[Key, ...]) -> pa.Array:
    """Return ports; where the protocol is known and has none, exporters write other things there."""
    values = view.number(*keys)
    if values is None:
        return pa.nulls(view.n, pa.uint16())
    without = (protocol >= 0) & ~np.isin(protocol, _WITH_PORTS)
    return pa.array((values & 0xFFFF).astype(np.uint16), mask=without)


def _addresses(packed: Bytes) -> pa.Array:
    data = np.ascontiguousarray(packed)
    return pa.FixedSizeBinaryArray.from_buffers(ADDRESS, len(data), [None, pa.py_buffer(data)])


def _service(view: View) -> pa.Array:
    """Return the application's name, where records hold it as text, in lower case."""
    field = view.bytes(APPLICATION_NAME)
    if field is None:
        return pa.nulls(view.n, pa.string())
    raw = np.ascontiguousarray(field).view(f"S{field.shape[1]}").reshape(view.n)
    coded = pa.array(raw.tolist(), pa.binary()).dictionary_encode()
    names = [_name(name) for name in coded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(coded.indices)


def _name(raw: bytes) -> str | None:
    return raw.decode("utf-8", "replace").strip().lower() or None
