"""Zeek's conn.log, written from flows of type conn@1."""

from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Any

import pyarrow as pa

FIELDS = {
    "ts": "time", "uid": "string", "id.orig_h": "addr", "id.orig_p": "port", "id.resp_h": "addr",
    "id.resp_p": "port", "proto": "enum", "service": "string", "duration": "interval",
    "orig_bytes": "count", "resp_bytes": "count", "conn_state": "string", "missed_bytes": "count",
    "history": "string", "orig_pkts": "count", "orig_ip_bytes": "count", "resp_pkts": "count",
    "resp_ip_bytes": "count",
}  # fmt: skip
STATES = {"established": "SF", "attempted": "S0", "rejected": "REJ", "reset": "RSTO", "other": "OTH"}
HEADER_BYTES = 40  # of IP and TCP, for each packet


def header(opened: str = "2026-01-05-00-00-00") -> str:
    """Return the lines at the beginning of a log that was opened at some time."""
    names, types = "\t".join(FIELDS), "\t".join(FIELDS.values())
    return (
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
        f"#open\t{opened}\n#fields\t{names}\n#types\t{types}\n"
    )


def lines(rows: pa.RecordBatch) -> Iterator[str]:
    """Yield a line for each flow, in their order."""
    for row in rows.to_pylist():
        yield "\t".join(_cells(row)) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    ended, duration = row["event_time"].timestamp(), row["duration"]
    packets = row["src_packets"], row["dst_packets"] or 0
    return [
        f"{ended - duration:.6f}",
        f"C{row['flow_id']}",
        _address(row["src_ip"]),
        _text(row["src_port"] or 0),
        _address(row["dst_ip"]),
        _text(row["dst_port"] or 0),
        row["protocol"],
        _text(row["service"]),
        f"{duration:.6f}",
        _text(row["src_bytes"]),
        _text(row["dst_bytes"] or 0),
        STATES[row["state"]],
        "0",
        "-",
        _text(packets[0]),
        _text(row["src_bytes"] + HEADER_BYTES * packets[0]),
        _text(packets[1]),
        _text((row["dst_bytes"] or 0) + HEADER_BYTES * packets[1]),
    ]


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _address(packed: bytes) -> str:
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)
