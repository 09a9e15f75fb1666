"""NetFlow v5, v9 and IPFIX, from a UDP socket or from files of datagrams, as flows.

Direction: a record of one direction has its sender as source, and no reply columns; biflows (RFC
5103, initiator and responder counters) have the initiator. States: see `connectors.netflow.states`.
Records that are no flows (without both addresses or without any counter: NAT and firewall events,
interface counters, tables of names) are counted, not rejected. Bytes are IP bytes. A record whose
exporter counts only packets, or only bytes, has 0 for the other.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from connectors.base import ROWS_PER_CHUNK, Chunk
from connectors.errors import SourceError
from connectors.netflow import message
from connectors.netflow.assemble import assemble
from connectors.netflow.collector import Collector, Limits
from connectors.netflow.found import Found
from connectors.netflow.receiver import LONGEST_DATAGRAM, Receiver
from connectors.records import CONN

SENSOR = "netflow"
PORT = 2055
WAIT_S = 0.2
"""A live source gives a chunk, if an empty one, this often."""

RECEIVE_BUFFER_BYTES = 32 * 1024 * 1024
"""A second of 100,000 flows/s needs about 6 MB."""

COUNTERS = (
    "datagrams", "bytes", "flows", "non_flow_records", "options_records", "rejected", "gaps", "lost_flows",
    "lost_datagrams", "lost_records", "late_datagrams", "restarts", "withdrawals", "held_sets", "templates",
    "kernel_drops",
)  # fmt: skip

_NOTES = (
    "A record of one direction has its sender as source and no reply; biflows have the initiator.",
    "Bytes are IP bytes; a counter that the exporter does not send is 0.",
    "Counters of sampled records are multiplied by the interval, where the exporter states it.",
)
_EXPECTED = "expected files of one UDP payload each, NetFlow v5, v9 or IPFIX"

recognises = message.recognises


class DatagramFiles:
    """Flows of export datagrams in files, one UDP payload each, as one exporter sent them in this order.

    Parameters
    ----------
    paths : sequence of Path
        In order: templates before the data that needs them, or soon after.
    sensor : str, optional
        Where the flows were observed; default: `netflow`.

    Raises
    ------
    SourceError
        If a file is missing or longer than a datagram, or none of them begins as one.
    """

    name = SENSOR
    record_type = CONN
    n_records: int | None = None
    notes = _NOTES

    def __init__(self, paths: Sequence[Path], *, sensor: str | None = None) -> None:
        _check_sensor(sensor)
        self._paths = list(paths)
        self._sensor = SENSOR if sensor is None else sensor
        self._collector = Collector(sensor=self._sensor)
        digest = hashlib.blake2b(f"netflow-files,{self._sensor}".encode(), digest_size=10)
        known = False
        for path in self._paths:
            payload = _payload(path)
            known = known or recognises(payload)
            digest.update(b"%d," % len(payload) + payload)
        if not known:
            first = f"{self._paths[0]}: begins as no export datagram" if self._paths else "no file"
            raise SourceError(f"{first}; {_EXPECTED}; give the payloads of the packets, not a capture")
        self.source_id = digest.hexdigest()

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk.

        Templates and sequences build up from the first datagram, so all are read in any case.
        """
        self._collector = Collector(sensor=self._sensor)
        pending: list[Found] = []
        position = n_pending = 0
        for found in self._found():
            if not pending and position + found.n <= start:
                position += found.n
                continue
            pending.append(found)
            n_pending += found.n
            if n_pending >= rows:
                yield from pieces(_chunk(self._collector, pending, position), start, rows)
                position += n_pending
                pending, n_pending = [], 0
        yield from pieces(_chunk(self._collector, pending, position), start, rows)

    def counters(self) -> dict[str, int]:
        """Return what the last reading has counted, by name; see `COUNTERS`."""
        return _counters(self._collector)

    def _found(self) -> Iterator[Found]:
        collector = self._collector
        for path in self._paths:
            yield from collector.feed(_payload(path), "", where=path.name)
        yield from collector.give_up()


class NetflowSource:
    """Flows that exporters send to a UDP port, as they come.

    Nothing can be read again: what had been received and had not reached Kafka when the process died
    is gone, and only the exporters' sequence numbers tell (`gaps`, `lost_...`). `chunks` does not end
    before `close`; it counts positions on from `start` and gives an empty chunk whenever nothing came
    for `WAIT_S`, so that its reader can do other things and stop.

    A datagram seen twice gives the same flow ids twice.

    Parameters
    ----------
    host : str
        Address to listen on; default: this machine alone. NetFlow has no authentication: anybody who
        can send to the port can send flows.
    port : int
        0 takes a free one; `address` says which.
    sensor : str, optional
        Where all flows are observed; default: the address of the exporter that sent them.
    buffer_bytes : int
        Wanted receive buffer; the kernel's limit (net.core.rmem_max) may make it smaller.
    limits : Limits, optional
        How much is kept of exporters, templates and data that waits for a template.
    now : callable
        Monotonic clock, seconds.

    Raises
    ------
    SourceError
        If the address cannot be listened on.
    """

    name = SENSOR
    record_type = CONN
    n_records: int | None = None

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        sensor: str | None = None,
        buffer_bytes: int = RECEIVE_BUFFER_BYTES,
        limits: Limits | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_sensor(sensor)
        self._receiver = Receiver(host, port, buffer_bytes=buffer_bytes)
        self._collector = Collector(sensor=sensor, limits=limits)
        self._now = now
        self.address = self._receiver.address
        identity = f"netflow,{host},{self.address[1]},{'' if sensor is None else sensor}"
        self.source_id = hashlib.blake2b(identity.encode(), digest_size=10).hexdigest()
        given = self._receiver.buffer_bytes
        room = f"The kernel's receive buffer has {given} bytes, wanted {buffer_bytes} (net.core.rmem_max)."
        self.notes: tuple[str, ...] = (*_NOTES, room)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; `chunks` then gives what it has and ends. May be called from any thread."""
        self._receiver.close()

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield what comes in, at most `rows` positions a chunk, the first one being `start`."""
        position = start
        while not self._receiver.closed:
            chunk = _chunk(self._collector, self._collected(rows), position)
            yield from pieces(chunk, position, rows)
            if chunk.next == position:
                yield chunk
            position = chunk.next
        last = _chunk(self._collector, list(self._collector.give_up()), position)
        yield from pieces(last, position, rows)

    def counters(self) -> dict[str, int]:
        """Return what has been counted so far, by name; see `COUNTERS`.

        Besides, `rejected_REASON` for each reason. `held_sets` and `templates` are as of now.
        """
        return {**_counters(self._collector), "kernel_drops": self._receiver.dropped()}

    def _collected(self, rows: int) -> list[Found]:
        """Receive for `WAIT_S`, or until there are enough rows."""
        collector, found, n_found = self._collector, [], 0
        end = self._now() + WAIT_S
        while n_found < rows and (now := self._now()) < end and not self._receiver.closed:
            received = self._receiver.receive(end - now)
            if received is not None:
                new = list(collector.feed(*received, now_s=now))
                found += new
                n_found += sum(item.n for item in new)
        found += collector.expire(self._now())
        return found


def pieces(chunk: Chunk, start: int, rows: int) -> Iterator[Chunk]:
    """Yield what a chunk has from position `start` on, at most `rows` positions each."""
    positions = np.asarray(chunk.rows["position"])
    for first in range(max(start, chunk.first), chunk.next, rows):
        following = min(first + rows, chunk.next)
        begin, end = np.searchsorted(positions, [first, following]).tolist()
        yield Chunk(
            rows=chunk.rows.slice(begin, end - begin),
            first=first,
            next=following,
            rejects=tuple(r for r in chunk.rejects if first <= r.position < following),
        )


def _chunk(collector: Collector, found: Sequence[Found], position: int) -> Chunk:
    """Return what was found as one chunk, and count it."""
    chunk = assemble(found, position)
    collector.counts["flows"] += chunk.rows.num_rows
    collector.counts["rejected"] += len(chunk.rejects)
    collector.counts.update(f"rejected_{reject.reason}" for reject in chunk.rejects)
    return chunk


def _counters(collector: Collector) -> dict[str, int]:
    return {**dict.fromkeys(COUNTERS, 0), **collector.counts, **collector.gauges}


def _check_sensor(sensor: str | None) -> None:
    if sensor == "":
        raise SourceError("netflow: the sensor's name is empty, expected where the flows were observed")


def _payload(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            payload = file.read(LONGEST_DATAGRAM + 1)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from error
    if len(payload) > LONGEST_DATAGRAM:
        raise SourceError(f"{path}: more than {LONGEST_DATAGRAM} bytes are no datagram; {_EXPECTED}")
    return payload
