"""Invented flows as goflow2 writes them, and files of them with some broken lines."""

import gzip
from pathlib import Path
from typing import Any

import msgspec

NOON_NS = 1_700_000_000_000_000_000


def flow(i: int, **changes: Any) -> bytes:
    """Return a record of one direction; `i` distinguishes it."""
    record = {
        "type": "NETFLOW_V9", "time_received_ns": NOON_NS, "sampling_rate": 1, "sampler_address": "10.9.9.9",
        "time_flow_start_ns": NOON_NS + i * 10**6, "time_flow_end_ns": NOON_NS + (i + 2) * 10**6,
        "bytes": 100 + i, "packets": 2, "src_addr": "10.0.0.1", "dst_addr": "10.0.0.2", "etype": "IPv4",
        "proto": "TCP", "src_port": 40_000 + i % 20_000, "dst_port": 443, "tcp_flags": 27,
    }  # fmt: skip
    try:
        return msgspec.json.encode(record | changes)
    except OverflowError:  # a number that only JSON can hold
        numbers = {name: value for name, value in changes.items() if isinstance(value, int)}
        line = msgspec.json.encode(record | changes | dict.fromkeys(numbers, "@"))
        return line.replace(b'"@"', str(next(iter(numbers.values()))).encode())


def write_flows(path: Path, n: int) -> Path:
    """Write at least 30 lines, some of them broken each in another way, the last one without an end."""
    lines = [flow(i) for i in range(n)]
    lines[5] = lines[5][:-9]
    lines[11] = flow(11, packets="many")
    lines[17] = flow(17, packets=-1)
    lines[23] = lines[23].replace(b"TCP", b"T\xffP")
    lines[29] = b"[" + lines[29] + b"]"
    content = b"\xef\xbb\xbf" + b"\r\n".join(lines)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
