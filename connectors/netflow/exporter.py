"""What is remembered about one exporter and domain: sequence, restarts, sampling."""

from dataclasses import dataclass

import numpy as np

from connectors.netflow.conn import ALL, Intervals
from connectors.netflow.message import IPFIX, Message
from connectors.netflow.rows import Ints, View
from connectors.netflow.templates import SCOPE
from connectors.netflow.times import UNKNOWN
from connectors.records import LATEST_US

_NUMBERS = 1 << 32  # sequence numbers and uptimes begin again here

_ONE_S = 1_000_000
_REORDERED_MS = 10_000
_NEAR_ZERO = 3000  # data records that an IPFIX exporter may have sent since its start, a hundred datagrams

_INTERVALS = ((0, 34), (0, 50))
_SAMPLERS = ((0, 48), (0, 302))
_SAMPLED, _SKIPPED = (0, 305), (0, 306)
_START_MS = (0, 160)
_MOST_SAMPLERS = 1000
# Scopes of v9 (interface, line card, cache, template) and elements of IPFIX for parts of an exporter.
_PARTS = frozenset([*((SCOPE, part) for part in (2, 3, 4, 5)), *((0, part) for part in (10, 14, 141, 145))])


def wrapped(difference: int) -> int:
    """Return a difference of 32-bit counters as the number next to 0.

    Examples
    --------
    >>> wrapped(3 - 0xFFFFFFFE)
    5
    """
    return (difference + _NUMBERS // 2) % _NUMBERS - _NUMBERS // 2


@dataclass(slots=True, kw_only=True)
class Followed:
    """What a sequence number tells: units lost before this datagram, or that it is late, or a restart.

    A unit is what the version counts: flows (v5), datagrams (v9), data records (IPFIX).
    """

    lost: int = 0
    late: bool = False
    restarted: bool = False


@dataclass(slots=True)
class Stream:
    """The datagrams of one exporter, version and domain."""

    sequence: int | None = None  # of the last datagram
    expected: int | None = None  # of the next one, where it can be told
    export_us: int = 0
    uptime_ms: int | None = None
    start_us: int = UNKNOWN
    intervals: Intervals = ()

    def follow(self, message: Message) -> Followed:
        """Compare a datagram with those before it and remember its times.

        The exporter has restarted if its uptime lies behind what the time since the last datagram
        makes of the last uptime (so that a wrap at 2^32 ms is none), or, for IPFIX, if its sequence
        begins again near 0 in a later second. A late datagram carries no later second. Some exporters
        count the records of a message in its own number, so only a number below the last one is back.
        """
        newer = message.export_us > self.export_us + _ONE_S
        back = self.sequence is not None and wrapped(message.sequence - self.sequence) < 0
        if self._restarted(message, newer=newer, back=back):
            self._remember(message)
            self.start_us, self.intervals = UNKNOWN, ()
            return Followed(restarted=True)
        if back and not newer:
            return Followed(late=True)
        ahead = 0 if back or self.expected is None else wrapped(message.sequence - self.expected)
        self._remember(message)
        return Followed(lost=max(0, ahead))

    def _remember(self, message: Message) -> None:
        self.sequence = self.expected = message.sequence
        self.export_us, self.uptime_ms = message.export_us, message.uptime_ms

    def _restarted(self, message: Message, *, newer: bool, back: bool) -> bool:
        if message.version == IPFIX:
            return newer and back and message.sequence < _NEAR_ZERO
        if self.uptime_ms is None or message.uptime_ms is None or message.uptime_ms >= self.uptime_ms:
            return False
        elapsed_ms = (message.export_us - self.export_us) // 1000
        return wrapped(message.uptime_ms - self.uptime_ms - elapsed_ms) < -_REORDERED_MS

    def advance(self, n_units: int | None) -> None:
        """Expect the number behind this datagram's units; None: they cannot be counted."""
        if self.expected is not None:
            self.expected = None if n_units is None else (self.expected + n_units) % _NUMBERS

    def learn(self, view: View) -> bool:
        """Take from options what records need: the exporter's start, sampling intervals."""
        start = view.number(_START_MS)
        if start is not None and view.n and start[-1] > 0:
            self.start_us = int(min(start[-1], LATEST_US // 1000)) * 1000
        found = intervals(view)
        if not found:
            return start is not None
        merged = {**dict(self.intervals), **found}
        if len(merged) <= _MOST_SAMPLERS:
            self.intervals = tuple(sorted(merged.items()))
        return True


def intervals(view: View) -> dict[int, int]:
    """Return the sampling intervals that records of options state, by sampler.

    Clear are those of a numbered sampler, and one alone that is not about a part of the exporter.
    """
    packets = _packets(view)
    if packets is None or not view.n:
        return {}
    sampler = view.number(*_SAMPLERS)
    if sampler is not None:
        pairs = zip(sampler.tolist(), packets.tolist(), strict=True)
        return {number: interval for number, interval in pairs if number >= 0 and interval > 0}
    alone = packets[0] > 0 and bool((packets == packets[0]).all())
    return {ALL: int(packets[0])} if alone and _PARTS.isdisjoint(view.template.places) else {}


def _packets(view: View) -> Ints | None:
    """Return how many packets one that is looked at stands for; 0: cannot be told."""
    interval = view.number(*_INTERVALS)
    if interval is not None:
        return interval
    sampled, skipped = view.number(_SAMPLED), view.number(_SKIPPED)
    if sampled is None:
        return None
    if skipped is None:
        return sampled  # older exporters put the whole interval here
    divisor = np.maximum(sampled, 1)
    return np.where(skipped % divisor == 0, 1 + skipped // divisor, 0)
