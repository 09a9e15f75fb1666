"""Zeek's connection log, as columns or as JSON, written from flows of conn@1 as a sensor would."""

import json
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pyarrow as pa

STATES = {"established": "SF", "attempted": "S0", "rejected": "REJ", "reset": "RSTO", "other": "OTH"}
FIELDS = {
    "ts": "time", "uid": "string", "id.orig_h": "addr", "id.orig_p": "port", "id.resp_h": "addr",
    "id.resp_p": "port", "proto": "enum", "service": "string", "duration": "interval",
    "orig_bytes": "count", "resp_bytes": "count", "conn_state": "string", "missed_bytes": "count",
    "orig_pkts": "count", "orig_ip_bytes": "count", "resp_pkts": "count", "resp_ip_bytes": "count",
}  # fmt: skip
HEADER_BYTES = 40  # of IP and TCP, for each packet


def header(opened: str = "2026-01-05-00-00-00") -> str:
    """Return the lines at the beginning of a log of columns that was opened at some time."""
    names, types = "\t".join(FIELDS), "\t".join(FIELDS.values())
    return (
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
        f"#open\t{opened}\n#fields\t{names}\n#types\t{types}\n"
    )


def zeek_columns(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Yield one line of columns a flow, with its end."""
    for values in zeek_records(batches):
        yield "\t".join(_cell(values.get(name)) for name in FIELDS) + "\n"


def zeek_lines(batches: Iterable[pa.RecordBatch], *, shift_s: float = 0.0) -> Iterator[str]:
    """Yield one JSON object a flow, times shifted by `shift_s`."""
    for values in zeek_records(batches, shift_s=shift_s):
        yield json.dumps(values)


def zeek_records(batches: Iterable[pa.RecordBatch], *, shift_s: float = 0.0) -> Iterator[dict[str, Any]]:
    """Yield the fields that have a value, a flow at a time; labels stay behind."""
    for batch in batches:
        for row in batch.to_pylist():
            yield {name: value for name, value in _fields(row, shift_s) if value is not None}


def append(path: Path, lines: Iterable[str]) -> None:
    """Write lines at the end of a log."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _fields(row: Mapping[str, Any], shift_s: float) -> list[tuple[str, Any]]:
    src_packets, dst_packets = row["src_packets"], row["dst_packets"] or 0
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
        ("missed_bytes", 0),
        ("orig_pkts", src_packets),
        ("orig_ip_bytes", row["src_bytes"] + HEADER_BYTES * src_packets),
        ("resp_pkts", dst_packets),
        ("resp_ip_bytes", (row["dst_bytes"] or 0) + HEADER_BYTES * dst_packets),
    ]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _text(address: bytes) -> str:
    return str(IPv6Address(address).ipv4_mapped or IPv6Address(address))
