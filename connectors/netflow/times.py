"""When flows began and ended, from whichever of the many fields for it records have."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from connectors.netflow.rows import Ints, View
from connectors.records import LATEST_US

UNKNOWN = -1
"""In place of an uptime or of a start of the exporter that is not known."""

_UPTIMES = 1 << 32
_NTP_TO_1970_S = 2_208_988_800
_NTP_ERA_S = 1 << 32
_PLAIN_MOST_S = 1_000_000  # in the upper half of a plain count of microseconds until 2106


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What the datagram of each record says about time, shape (n,)."""

    export_us: Ints  # when it was sent, UTC
    uptime_ms: Ints  # since the exporter started, modulo 2^32, or UNKNOWN
    start_us: Ints  # when the exporter started, where options say so, or UNKNOWN


def spans(view: View, clock: Clock) -> tuple[Ints, Ints]:
    """Return end (microseconds since 1970) and duration (microseconds) of each flow, shape (n,).

    Both ends come from the first field that records have: absolute times, times since the exporter
    started, times before the export, the time of an event. A time of 0 is none. What has no end
    ended when it was exported. A start behind the end gives a negative duration.
    """
    clock = _with_start(view, clock)
    end, start, stated = _first(view, clock, _ENDS), _first(view, clock, _STARTS), _stated(view)
    if end is None:
        end = clock.export_us if start is None or stated is None else start + stated
    end = np.where(end == 0, clock.export_us, end)
    if start is None:
        return end, np.zeros(view.n, np.int64) if stated is None else stated
    return end, np.where(start == 0, 0, end - start)


def _with_start(view: View, clock: Clock) -> Clock:
    """Add what records say about the start of their exporter.

    One that says nothing about it exports, as far as can be known, when the flow ends.
    """
    own = view.number((0, 160))
    start = clock.start_us if own is None else _scaled(own, 1000)
    last = view.number((0, 21))
    uptime = clock.uptime_ms
    if last is not None:
        uptime = np.where((uptime == UNKNOWN) & (start == UNKNOWN), last, uptime)
    return Clock(export_us=clock.export_us, uptime_ms=uptime, start_us=start)


def _stated(view: View) -> Ints | None:
    millis, micros = view.number((0, 161)), view.number((0, 162))
    if millis is not None:
        return _scaled(millis, 1000)
    return None if micros is None else _scaled(micros, 1)


Reader = Callable[[Ints, Clock], Ints]
"""Values of a field -> microseconds since 1970; 0: not given."""


def _first(view: View, clock: Clock, readers: tuple[tuple[int, Reader], ...]) -> Ints | None:
    for element, reader in readers:
        values = view.number((0, element))
        if values is not None:
            return reader(values, clock)
    return None


def _scaled(values: Ints, factor: int) -> Ints:
    """Return values in microseconds; what would not fit becomes a time that the check refuses."""
    return np.clip(values, -1, LATEST_US // factor + 1) * factor


def _seconds(values: Ints, _clock: Clock) -> Ints:
    return _scaled(values, 1_000_000)


def _millis(values: Ints, _clock: Clock) -> Ints:
    return _scaled(values, 1000)


def _ntp(values: Ints, _clock: Clock) -> Ints:
    """Read NTP's seconds and binary fraction (RFC 7011, 6.1.9), or the plain count that some send."""
    whole = values.view(np.uint64)
    seconds = (whole >> np.uint64(32)).astype(np.int64)
    fraction = (whole & np.uint64(0xFFFFFFFF)).astype(np.int64)
    # NTP's seconds begin again in 2036.
    since_1970 = seconds - _NTP_TO_1970_S + np.where(seconds < _NTP_TO_1970_S, _NTP_ERA_S, 0)
    ntp = since_1970 * 1_000_000 + (fraction * 1_000_000 >> 32)
    return np.where(seconds < _PLAIN_MOST_S, values, ntp)


def _uptime(values: Ints, clock: Clock) -> Ints:
    """Count from the start of the exporter; its 32 bits of milliseconds begin again every 50 days."""
    ago_ms = (clock.uptime_ms - values + _UPTIMES // 2) % _UPTIMES - _UPTIMES // 2
    from_start = clock.start_us + _scaled(values, 1000)
    return np.where(clock.uptime_ms == UNKNOWN, from_start, clock.export_us - ago_ms * 1000)


def _before(values: Ints, clock: Clock) -> Ints:
    return clock.export_us - _scaled(values, 1)


_ENDS: tuple[tuple[int, Reader], ...] = (
    (153, _millis), (155, _ntp), (157, _ntp), (151, _seconds), (21, _uptime), (159, _before),
    (323, _millis), (324, _ntp), (325, _ntp), (322, _seconds),
)  # fmt: skip
_STARTS: tuple[tuple[int, Reader], ...] = (
    (152, _millis), (154, _ntp), (156, _ntp), (150, _seconds), (22, _uptime), (158, _before),
)  # fmt: skip
