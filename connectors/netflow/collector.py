"""The state of a collector: datagrams in, records and faults out, in order."""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from connectors.netflow import message as messages
from connectors.netflow.exporter import Stream
from connectors.netflow.found import Found, FoundFault, Origin
from connectors.netflow.held import Held
from connectors.netflow.message import IPFIX, V5, V9, Fault, Message
from connectors.netflow.sets import SetReader, State, StreamKey, without_template
from connectors.netflow.templates import TemplateCache
from connectors.netflow.times import UNKNOWN

_LOST = {V5: "lost_flows", V9: "lost_datagrams", IPFIX: "lost_records"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a collector keeps, whatever it is sent."""

    template_fields: int = 1_000_000
    streams: int = 10_000
    held_sets: int = 20_000
    held_bytes: int = 16 * 1024 * 1024
    held_s: float = 600.0  # routers send templates again within minutes


class Collector:
    """Templates, sequences and waiting sets of all exporters.

    An exporter is an address, whatever port it sends from.

    Parameters
    ----------
    sensor : str, optional
        Where all flows are observed; default: the exporter that sent them.
    limits : Limits
        How much is kept. Of streams and templates the least recently used go first; of waiting sets
        the oldest, which are faults then.

    Attributes
    ----------
    counts : Counter
        What has been seen so far, by name.
    """

    def __init__(self, *, sensor: str | None = None, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self.counts: Counter[str] = Counter()
        self._sensor = sensor
        self._streams: OrderedDict[StreamKey, Stream] = OrderedDict()
        self._most_streams = limits.streams
        self._held = Held(most_sets=limits.held_sets, most_bytes=limits.held_bytes, longest_s=limits.held_s)
        self._state = State(
            templates=TemplateCache(limits.template_fields), held=self._held, counts=self.counts
        )

    @property
    def gauges(self) -> dict[str, int]:
        """How much is kept now."""
        return {"held_sets": len(self._held), "templates": len(self._state.templates)}

    def feed(self, payload: bytes, exporter: str, *, where: str = "", now_s: float = 0.0) -> Iterator[Found]:
        """Yield what one datagram gives, and what its templates release.

        Parameters
        ----------
        payload : bytes
            The UDP payload.
        exporter : str
            Who sent it; keeps templates and ids of exporters apart.
        where : str
            How a person finds the datagram; default: exporter and sequence number.
        now_s : float
            Monotonic time, seconds: from when sets without a template wait.
        """
        self.counts["datagrams"] += 1
        self.counts["bytes"] += len(payload)
        for found in messages.read(payload):
            if isinstance(found, Fault):
                origin = self._origin(exporter, where or exporter)
                yield FoundFault(origin=origin, raw=found.raw, reason=found.reason, detail=found.detail)
            else:
                yield from self._message(found, exporter, where, now_s)

    def expire(self, now_s: float) -> Iterator[Found]:
        """Yield as faults the sets that have waited too long for their templates."""
        yield from map(without_template, self._held.expire(now_s))

    def give_up(self) -> Iterator[Found]:
        """Yield as faults all sets that wait: nothing more will come."""
        yield from map(without_template, self._held.give_up())

    def _origin(self, exporter: str, where: str, message: Message | None = None) -> Origin:
        sensor = exporter if self._sensor is None else self._sensor
        salt = hashlib.blake2b(f"{sensor},{exporter}".encode(), digest_size=16).digest()
        if message is None:
            return Origin(sensor=sensor, salt=salt, where=where)
        return Origin(
            sensor=sensor,
            salt=salt,
            where=where,
            head=message.head,
            export_us=message.export_us,
            uptime_ms=UNKNOWN if message.uptime_ms is None else message.uptime_ms,
        )

    def _message(self, message: Message, exporter: str, where: str, now_s: float) -> Iterator[Found]:
        key = (exporter, message.version, message.domain)
        stream = self._stream(key)
        late = self._follow(key, stream, message)
        where = where or f"{exporter} sequence {message.sequence}"
        reader = SetReader(self._state, key, stream, self._origin(exporter, where, message))
        yield from reader.read(message, now_s)
        if not late:
            records = reader.n if reader.complete else None
            stream.advance({V5: reader.n, V9: 1, IPFIX: records}[message.version])

    def _follow(self, key: StreamKey, stream: Stream, message: Message) -> bool:
        """Count gaps, late datagrams and restarts; return whether the datagram is late."""
        followed = stream.follow(message)
        if followed.restarted:
            self.counts["restarts"] += 1
            self._state.templates.drop_all(key)
        self.counts["late_datagrams"] += followed.late
        if followed.lost:
            self.counts["gaps"] += 1
            self.counts[_LOST[message.version]] += followed.lost
        return followed.late

    def _stream(self, key: StreamKey) -> Stream:
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = Stream()
            while len(self._streams) > self._most_streams:
                self._streams.popitem(last=False)
        self._streams.move_to_end(key)
        return stream
