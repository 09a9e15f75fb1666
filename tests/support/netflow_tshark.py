"""Export datagrams as tshark, an independent decoder, reads them."""

import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What tshark finds in one datagram."""

    n_records: int  # of flows and others, options too
    n_without_template: int  # sets
    durations_ms: list[int]
    octets: list[int]


def capture(payloads: Sequence[tuple[int, bytes]]) -> bytes:
    """Return a capture of UDP datagrams to port 2055, each from exporter 10.1.0.N."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101)
    for i, (exporter, payload) in enumerate(payloads):
        udp = struct.pack("!HHHH", 2055, 2055, 8 + len(payload), 0) + payload
        addresses = bytes([10, 1, 0, exporter, 127, 0, 0, 1])
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), i, 0, 64, 17, 0) + addresses + udp
        out += struct.pack("<IIII", i, 0, len(packet), len(packet)) + packet
    return out


def payloads(capture_file: bytes) -> list[bytes]:
    """Return the UDP payloads of a capture of IPv4 over Ethernet."""
    found, at = [], 24
    while at < len(capture_file):
        (length,) = struct.unpack_from("<I", capture_file, at + 8)
        found.append(capture_file[at + 16 + 14 + 20 + 8 : at + 16 + length])
        at += 16 + length
    return found


def seen(path: Path) -> list[Seen]:
    """Return what tshark finds in each packet of a capture."""
    command = ["tshark", "-r", str(path), "-d", "udp.port==2055,cflow", "-d", "udp.port==2057,cflow"]
    fields = ["-T", "fields", "-E", "separator=;", "-e", "cflow.timedelta", "-e", "cflow.octets"]
    lines = _output([*command, *fields]).splitlines()
    frames = re.split(r"(?m)^Frame \d+:", _output([*command, "-V"]))[1:]
    return [_seen(frame, *line.split(";")) for frame, line in zip(frames, lines, strict=True)]


def _seen(frame: str, durations: str, octets: str) -> Seen:
    return Seen(
        n_records=len(re.findall(r"(?m)^\s+(?:Flow \d+|pdu \d+/\d+)\b", frame)),
        n_without_template=len(re.findall(r"(?m)^\s+Data \(\d+ bytes\), no template found$", frame)),
        durations_ms=sorted(round(1000 * float(text)) for text in durations.split(",") if text),
        octets=sorted(int(text) for text in octets.split(",") if text),
    )


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
