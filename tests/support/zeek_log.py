"""A Zeek connection log in JSON, written from flows of conn@1 as a sensor would."""

import json
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pyarrow as pa

STATES = {"established": "SF", "attempted": "S0", "rejected": "REJ", "reset": "RSTO", "other": "OTH"}


def zeek_lines(batches: Iterable[pa.RecordBatch], *, shift_s: float = 0.0) -> Iterator[str]:
    """Yield one line a flow, times shifted by `shift_s`; labels stay behind."""
    for batch in batches:
        for row in batch.to_pylist():
            yield json.dumps({name: value for name, value in _fields(row, shift_s) if value is not None})


def append(path: Path, lines: Iterable[str]) -> None:
    """Write lines at the end of a log."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _fields(row: Mapping[str, Any], shift_s: float) -> list[tuple[str, Any]]:
    return [
        ("ts", row["event_time"].timestamp() - row["duration"] + shift_s),
        ("uid", f"C{row['flow_id']}"),
        ("id.orig_h", _text(row["src_ip"])),
        ("id.orig_p", 8 if row["src_port"] is None else row["src_port"]),  # ICMP: type and code
        ("id.resp_h", _text(row["dst_ip"])),
        ("id.resp_p", 0 if row["dst_port"] is None else row["dst_port"]),
        ("proto", row["protocol"]),
        ("service", row["service"]),
        ("duration", row["duration"]),
        ("orig_bytes", row["src_bytes"]),
        ("resp_bytes", row["dst_bytes"]),
        ("conn_state", STATES[row["state"] or "other"]),
        ("orig_pkts", row["src_packets"]),
        ("resp_pkts", row["dst_packets"]),
    ]


def _text(address: bytes) -> str:
    return str(IPv6Address(address).ipv4_mapped or IPv6Address(address))
