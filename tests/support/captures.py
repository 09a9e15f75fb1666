"""Packets and captures, written byte by byte: the tests' own word on what stands in a file."""

import gzip
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Reject, Source
from connectors.source_pcap import PcapSource

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
EPOCH_S = 1_700_000_000

Packet = tuple[float, bytes]
"""Seconds since 1970, and the frame."""

Row = dict[str, Any]


def ip(src: str, dst: str, protocol: int, content: bytes) -> bytes:
    """Return an IP packet in an Ethernet frame, of the version of its addresses."""
    a, b = ip_address(src).packed, ip_address(dst).packed
    if len(a) == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 1, 0, 64, protocol, 0)
        return bytes(12) + b"\x08\x00" + header + a + b + content
    header = struct.pack("!IHBB", 6 << 28, len(content), protocol, 64)
    return bytes(12) + b"\x86\xdd" + header + a + b + content


def tcp(a: str, b: str, ports: tuple[int, int], flags: int, payload: bytes = b"") -> bytes:
    """Return a frame with a TCP segment."""
    header = struct.pack("!HHIIBBHHH", *ports, 1, 1, 5 << 4, flags, 8192, 0, 0)
    return ip(a, b, TCP, header + payload)


def udp(a: str, b: str, ports: tuple[int, int], payload: bytes = b"") -> bytes:
    """Return a frame with a UDP datagram."""
    return ip(a, b, UDP, struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload)


def icmp(a: str, b: str, kind: int, payload: bytes = b"") -> bytes:
    """Return a frame with an ICMP message of the version of its addresses."""
    return ip(a, b, ICMP6 if ":" in a else ICMP, struct.pack("!BBHHH", kind, 0, 0, 1, 1) + payload)


def pcap(
    packets: Iterable[Packet], *, link_type: int = 1, snap_bytes: int = 65_535, order: str = "<"
) -> bytes:
    """Return a capture in microseconds."""
    parts = [struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap_bytes, link_type)]
    for time_s, frame in packets:
        whole_s, us = divmod(round(time_s * 1_000_000), 1_000_000)
        cut = frame[:snap_bytes]
        parts += [struct.pack(order + "IIII", whole_s, us, len(cut), len(frame)), cut]
    return b"".join(parts)


def block(kind: int, content: bytes) -> bytes:
    """Return a block of a pcapng file."""
    content += bytes(-len(content) % 4)
    size = struct.pack("<I", 12 + len(content))
    return struct.pack("<I", kind) + size + content + size


def pcapng(packets: Iterable[Packet]) -> bytes:
    """Return a capture as blocks, with some about other things between."""
    parts = [
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)),
        block(1, struct.pack("<HHI", 1, 0, 65_535)),
        block(0xBAD, b"a custom block"),
    ]
    for time_s, frame in packets:
        us = round(time_s * 1_000_000)
        head = struct.pack("<IIIII", 0, us >> 32, us & 0xFFFF_FFFF, len(frame), len(frame))
        parts.append(block(6, head + frame))
    return b"".join(parts)


def conversation(time_s: float, a: str, b: str, ports: tuple[int, int], answer: bytes) -> list[Packet]:
    """Return a TCP connection with a request, an answer and its end."""
    back = ports[::-1]
    frames = [
        tcp(a, b, ports, SYN),
        tcp(b, a, back, SYN | ACK),
        tcp(a, b, ports, ACK),
        tcp(a, b, ports, PSH | ACK, b"GET / HTTP/1.1\r\nHost: weir.test\r\n\r\n"),
        tcp(b, a, back, PSH | ACK, answer),
        tcp(b, a, back, FIN | ACK),
        tcp(a, b, ports, FIN | ACK),
    ]
    return [(time_s + i / 1000, frame) for i, frame in enumerate(frames)]


def flow(i: int) -> list[Packet]:
    """Return the packets of flow i: connections, questions, pings, and one of the year 2105."""
    a, b, ports = f"10.1.{i // 250}.{i % 250 + 1}", "10.2.0.9", (20_000 + i, 80)
    time_s = EPOCH_S + float(i)
    if i % 57 == 11:
        return [(4_260_000_000.0 + i, udp(a, b, (20_000 + i, 53), b"late"))]
    if i % 4 == 0:
        return conversation(time_s, a, b, ports, b"HTTP/1.1 200 OK\r\n\r\n" + bytes(i % 100))
    if i % 4 == 1:
        return [(time_s, udp(f"fd00::{i + 1:x}", "fd00::9", (20_000 + i, 53), bytes(20)))]
    if i % 4 == 2:
        return [(time_s, icmp(a, b, 8)), (time_s + 0.01, icmp(b, a, 0))]
    return [(time_s, tcp(a, b, ports, SYN)), (time_s + 0.2, tcp(b, a, ports[::-1], RST | ACK))]


def flows(n: int) -> list[Packet]:
    """Return the packets of n flows, in order of time but for those of 2105."""
    return [packet for i in range(n) for packet in flow(i)]


def make_source(name: str, folder: Path, n: int) -> Source:
    """Return n flows in a capture whose last packet breaks off, of the form that its name says."""
    pytest.importorskip("_lib_engine", reason="captures need nfstream: pip install 'weir[pcap]'")
    content = (pcapng if ".pcapng" in name else pcap)([*flows(n), (EPOCH_S + n, bytes(100))])[:-20]
    path = folder / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return PcapSource(path)


def frames(*contents: bytes, start_s: float = EPOCH_S, step_s: float = 0.1) -> list[Packet]:
    """Return packets at equal distances."""
    return [(start_s + i * step_s, content) for i, content in enumerate(contents)]


def write(path: Path, packets: Iterable[Packet]) -> Path:
    """Write a capture; return its path."""
    path.write_bytes(pcap(packets))
    return path


def read_all(source: PcapSource, rows: int = 4000) -> tuple[list[Row], list[Reject]]:
    """Return rows and rejects of a source, each position once."""
    following = 0
    good: list[Row] = []
    bad: list[Reject] = []
    for chunk in source.chunks(rows=rows):
        found = [*chunk.rows["position"].to_pylist(), *(reject.position for reject in chunk.rejects)]
        assert sorted(found) == list(range(following, chunk.next))
        following = chunk.next
        good += chunk.rows.to_pylist()
        bad += chunk.rejects
    return good, bad
