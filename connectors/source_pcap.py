"""Captures, pcap or pcapng, as flows of type conn@1: nfstream's engine meters them (see `capture_meter`).

- **Flow**: packets between two addresses and ports, both ways, until `idle_s` of silence, `active_s` in
  all, or a SYN behind the end of a connection. Flows come in the order in which they ended.
- **Source** is the sender of the first packet, unless that packet is an answer: a SYN/ACK, the reply to a
  ping, or, where no SYN begins the flow, from a well-known server port to one that is none. The rest of a
  flow that was cut for its length keeps its direction.
- **Bytes** are those of the payload of TCP, UDP and ICMP, by the lengths in the headers, so that it does not
  matter how much of each packet was captured; of other protocols, what follows the IP header.
- **State**: `reset` or `rejected` for a RST, unless both sides had said FIN: the first behind a handshake
  (or where it lies before the capture), the second in answer to a SYN. Else `established` where both sides
  sent, `attempted` for a SYN, datagram or ICMP request without any answer, `other` for one side of
  something else.
- **Service** is what nDPI reads in the payload, never a guess from ports or addresses.
"""

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors import capture_file, table_file
from connectors.base import ROWS_PER_CHUNK, Chunk, Reject
from connectors.capture_file import Opening
from connectors.capture_flows import Flows, Metering, metering_of
from connectors.errors import SourceError
from connectors.protocols import PORT_PROTOCOLS, protocol_name
from connectors.records import ADDRESS, CONN, LATEST_US, TIME

IDLE_S = 120.0
"""Silence that ends a flow, s: that of Linux' connection tracking for UDP, between NetFlow's 15 s and
Zeek's 60 s (UDP) and 300 s (TCP)."""
ACTIVE_S = 1800.0
"""Length at which a flow is given out and goes on as another, s: NetFlow's 30 minutes."""
MOST_OPEN = 100_000
"""Flows kept at a time; in a flood, those that were silent longest end sooner."""

_NAME = "pcap"
_WHOLE_FRAME = 1514  # bytes of the longest Ethernet frame; a smaller snapshot length cuts packets
_ASKING = (*PORT_PROTOCOLS, "icmp", "ipv6-icmp")

_FROM_PAYLOAD = (3, 4, 5, 6, 8)
"""nDPI's confidences that rest on the payload; 1, 2 and 7 stand for ports and addresses."""
_NO_SERVICES = ("", "unknown", "icmp", "icmpv6", "igmp")
_SERVICES = {
    "ftp_control": "ftp", "ftp_data": "ftp-data", "kerberos": "krb", "smbv1": "smb", "smbv23": "smb",
    "http_proxy": "http", "http_connect": "http", "smtps": "tls", "imaps": "tls", "pops": "tls",
    "dhcpv6": "dhcp", "netbios.smbv1": "smb", "netbios.smbv23": "smb",
}  # fmt: skip
"""nDPI's names, lower case -> the words that other sources use; those that are not here stay."""

Mask = npt.NDArray[np.bool_]


def recognises(head: bytes) -> bool:
    """Say whether a file begins as a capture does.

    Parameters
    ----------
    head : bytes
        The beginning of the file, unpacked.

    Examples
    --------
    >>> recognises(bytes.fromhex("d4c3b2a1 0200 0400") + bytes(8) + bytes.fromhex("ffff0000 01000000"))
    True
    """
    return capture_file.recognises(head)


class PcapSource:
    """Flows of a capture, pcap or pcapng, plain or gzipped; the module says what they are.

    A process of its own takes the packets apart, so that none of them can end or hold up ours. Behind the
    flows stands a reject for all packets that have IP but no whole headers, if there are any, and one for
    what breaks the capture off, if something does.

    Parameters
    ----------
    path : Path
        The file.
    sensor : str, optional
        Where the packets were captured; default: pcap.
    idle_s, active_s : float
        Silence and length that end a flow, s. Positions follow from them, so they enter `source_id`.
    most_open : int
        Flows kept at a time, about 3.5 kB each.

    Attributes
    ----------
    packets, left_out : int or None
        Packets in the capture, and those that are in no flow; known when it was read to its end.

    Raises
    ------
    SourceError
        If the file is missing, no capture, holds no whole packet or frames of an unknown kind, or
        nfstream is not installed. From `chunks`, if the file has gone or the meter died of a packet.

    References
    ----------
    .. [1] Aouini & Pekar (2022), NFStream: A flexible network data analysis framework, Computer
       Networks 204, 108719.
    """

    name = _NAME
    record_type = CONN
    n_records: int | None = None

    def __init__(
        self,
        path: Path,
        *,
        sensor: str | None = None,
        idle_s: float = IDLE_S,
        active_s: float = ACTIVE_S,
        most_open: int = MOST_OPEN,
    ) -> None:
        _check_installed(path)
        if not (idle_s >= 0.001 and active_s >= 0.001 and most_open >= 1):
            raise SourceError(
                f"{path}: idle_s {idle_s:g}, active_s {active_s:g}, most_open {most_open}; expected at "
                f"least a millisecond each, and one flow"
            )
        opening = capture_file.opening(path)
        self.packets: int | None = None
        self.left_out: int | None = None
        self.notes = _notes(opening, idle_s, active_s)
        self._path = path
        self._sensor = _NAME if sensor is None else sensor
        self._limits = (round(idle_s * 1000), round(active_s * 1000), most_open)
        identity = f"{_NAME},{self._sensor},{self._limits},".encode()
        self.source_id = hashlib.blake2b(identity + table_file.file_digest(path), digest_size=10).hexdigest()
        # The salt makes the ids of two files differ at no cost a row.
        self._salt = hashlib.blake2b(self._sensor.encode() + b"," + opening.first, digest_size=16).digest()

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        first = start
        with metering_of(self._path, self._limits) as metering:
            for flows in metering.blocks(start, rows):
                yield self._chunk(first, flows)
                first += len(flows)
            self.packets, self.left_out = metering.packets, metering.left_out
            yield from self._last(metering, start)

    def _chunk(self, first: int, flows: Flows) -> Chunk:
        positions = first + np.arange(len(flows), dtype=np.int64)
        raw = _texts(flows)
        identity = {
            "sensor": pa.repeat(self._sensor, len(flows)),
            "flow_id": pa.array(self._flow_ids(positions, raw), pa.string()),
            "position": pa.array(positions),
        }
        checked = CONN.check(pa.RecordBatch.from_pydict({**identity, **_columns(flows)}))
        rejects = tuple(
            Reject(
                position=first + bad.index,
                raw=raw[bad.index],
                reason=bad.reason,
                detail=f"{self._path.name} record {first + bad.index + 1}: {bad.detail}",
            )
            for bad in checked.bad
        )
        return Chunk(rows=checked.rows, first=first, next=first + len(flows), rejects=rejects)

    def _flow_ids(self, positions: npt.NDArray[np.int64], raw: list[bytes]) -> list[str]:
        salt, blake2b = self._salt, hashlib.blake2b
        return [
            blake2b(b"%d," % position + text, digest_size=10, salt=salt).hexdigest()
            for position, text in zip(positions.tolist(), raw, strict=True)
        ]

    def _last(self, metering: Metering, start: int) -> Iterator[Chunk]:
        """Yield what is wrong with the capture as a whole, behind its flows."""
        faults = []
        if metering.unreadable:
            detail = (
                f"{metering.unreadable} packets have headers that are malformed or were not captured, the "
                f"first of them this one, and are in no flow; tcpdump -s 0 captures whole packets"
            )
            faults.append(("unreadable_packets", detail, metering.first_unreadable))
        if metering.broken:
            found = capture_file.broken_at(self._path, metering.packets)
            faults.append((found.reason, found.detail, found.raw))
        for position, (reason, detail, raw) in enumerate(faults, metering.n_flows):
            if position >= start:
                where = f"{self._path.name} record {position + 1}"
                reject = Reject(position=position, raw=raw, reason=reason, detail=f"{where}: {detail}")
                rows = pa.RecordBatch.from_pylist([], CONN.schema)
                yield Chunk(rows=rows, first=position, next=position + 1, rejects=(reject,))


def _check_installed(path: Path) -> None:
    if importlib.util.find_spec("_lib_engine") is None:
        raise SourceError(
            f"{path}: captures are read with nfstream, which is not installed; pip install 'weir[pcap]' "
            f"(Linux on x86-64, macOS on arm64)"
        )


def _notes(opening: Opening, idle_s: float, active_s: float) -> tuple[str, ...]:
    notes = (
        "Source is the sender of the first packet, unless it is an answer: SYN/ACK, ping reply, server port.",
        "Bytes are payload bytes (TCP, UDP, ICMP; of other protocols, what follows the IP header).",
        f"A flow ends after {idle_s:g} s of silence or {active_s:g} s in all.",
        "Records are in the order of their end, with times in milliseconds.",
        "Packets without IP and fragments behind the first are in no flow.",
    )
    if not 0 < opening.snap_bytes < _WHOLE_FRAME:
        return notes
    return (
        *notes,
        f"Packets were cut to {opening.snap_bytes} bytes; IPv6 ones that were cut are in no flow.",
    )


def _columns(flows: Flows) -> dict[str, pa.Array]:
    """Return the columns of conn@1, but for sensor, flow_id and position."""
    turned = flows["turned"] != 0
    src, dst = _Side(flows, "src", "dst", turned), _Side(flows, "dst", "src", turned)
    protocol = _protocols(flows)
    no_ports = ~np.asarray(pc.is_in(protocol, pa.array(PORT_PROTOCOLS)), dtype=np.bool_)
    silent = dst["packets"] == 0
    return {
        "event_time": _times(flows),
        "src_ip": _addresses(src["ip"], flows["ip_version"]),
        "dst_ip": _addresses(dst["ip"], flows["ip_version"]),
        "src_port": pa.array(src["port"], mask=no_ports),
        "dst_port": pa.array(dst["port"], mask=no_ports),
        "protocol": protocol,
        "label": pa.nulls(len(flows), pa.string()),
        "duration": pa.array((flows["last_ms"] - flows["first_ms"]) / 1000),
        "src_bytes": pa.array(src["bytes"].astype(np.int64)),
        "dst_bytes": pa.array(dst["bytes"].astype(np.int64), mask=silent),
        "src_packets": pa.array(src["packets"].astype(np.int64)),
        "dst_packets": pa.array(dst["packets"].astype(np.int64), mask=silent),
        "service": _services(flows),
        "state": _states(flows, protocol, src, dst),
    }


class _Side:
    """What one side of each flow sent, once it is settled which side it is."""

    def __init__(self, flows: Flows, straight: str, other: str, turned: Mask) -> None:
        self._flows, self._straight, self._other, self._turned = flows, straight, other, turned

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        there, back = self._flows[f"{self._other}_{name}"], self._flows[f"{self._straight}_{name}"]
        return np.where(self._turned, there, back)


def _times(flows: Flows) -> pa.Array:
    """Return the times of the last packets; those that would not fit become one that the check refuses."""
    last_ms = np.minimum(flows["last_ms"], np.uint64(LATEST_US // 1000)).astype(np.int64)
    return pa.array(last_ms * 1000).cast(TIME)


def _addresses(addresses: npt.NDArray[np.void], versions: npt.NDArray[np.uint8]) -> pa.Array:
    octets = np.ascontiguousarray(addresses).view(np.uint8).reshape(-1, 16)
    mapped = np.zeros_like(octets)
    mapped[:, 10:12] = 0xFF
    mapped[:, 12:] = octets[:, :4]
    chosen = np.where((versions == 4)[:, None], mapped, octets)
    return pa.Array.from_buffers(ADDRESS, len(chosen), [None, pa.py_buffer(chosen.tobytes())])


def _protocols(flows: Flows) -> pa.Array:
    numbers, codes = np.unique(flows["protocol"], return_inverse=True)
    names = [protocol_name(str(number)) for number in numbers.tolist()]
    return pa.array(names, pa.string()).take(pa.array(codes))


def _services(flows: Flows) -> pa.Array:
    applications, codes = np.unique(flows["application"], return_inverse=True)
    words = [_service(name.decode("utf-8", "replace").lower()) for name in applications.tolist()]
    read = pa.array(np.isin(flows["confidence"], _FROM_PAYLOAD))
    return pc.if_else(read, pa.array(words, pa.string()).take(pa.array(codes)), None)


def _service(application: str) -> str | None:
    """Return nDPI's protocol, without what stands behind the dot: mostly the site, as in TLS.Google."""
    protocol = application.split(".", maxsplit=1)[0]
    return None if protocol in _NO_SERVICES else _SERVICES.get(application, _SERVICES.get(protocol, protocol))


def _states(flows: Flows, protocol: pa.Array, src: _Side, dst: _Side) -> pa.Array:
    tcp = np.asarray(pc.equal(protocol, "tcp"), dtype=np.bool_)
    icmp = np.asarray(pc.is_in(protocol, pa.array(["icmp", "ipv6-icmp"])), dtype=np.bool_)
    asking = np.asarray(pc.is_in(protocol, pa.array(_ASKING)), dtype=np.bool_)
    asked = (src["packets"] > 0) & (dst["packets"] == 0)
    both = (src["packets"] > 0) & (dst["packets"] > 0)
    syn, shaken = src["syn"] > 0, dst["syn"] > 0
    closed = (src["fin"] > 0) & (dst["fin"] > 0)
    aborted = tcp & both & ~closed & ((src["rst"] > 0) | (dst["rst"] > 0))
    request = np.where(tcp, syn, np.where(icmp, flows["asks"] != 0, asking))
    states = np.select(
        [aborted & (shaken | ~syn), aborted & (dst["rst"] > 0), both, asked & request],
        ["reset", "rejected", "established", "attempted"],
        "other",
    )
    return pa.array(states.tolist(), pa.string())


_IN_TEXT = (
    "first_ms", "last_ms", "src_port", "dst_port", "ip_version", "protocol", "src_packets", "dst_packets",
    "src_bytes", "dst_bytes", "src_syn", "dst_syn", "src_fin", "dst_fin", "src_rst", "dst_rst",
)  # fmt: skip


def _texts(flows: Flows) -> list[bytes]:
    """Return the flows as comma text: what is counted, not what nDPI makes of it, which changes with it."""
    src, dst = flows["src_ip"].tolist(), flows["dst_ip"].tolist()
    numbers = zip(*(flows[name].tolist() for name in _IN_TEXT), strict=True)
    return [
        b"%b,%b,%b" % (a.hex().encode(), b.hex().encode(), ",".join(map(str, row)).encode())
        for a, b, row in zip(src, dst, numbers, strict=True)
    ]
