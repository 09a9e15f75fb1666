"""Invented logs of Zeek and Suricata, some of their records broken."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.base import Source
from connectors.source_suricata import SuricataSource
from connectors.source_zeek import ZeekSource

FIELDS = (
    "ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service", "duration",
    "orig_bytes", "resp_bytes", "conn_state", "missed_bytes", "orig_pkts", "orig_ip_bytes", "resp_pkts",
    "resp_ip_bytes",
)  # fmt: skip
START_S = 1_700_000_000


def conn(i: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a record of Zeek, with changes under the names of its fields, dots as double underscores."""
    record = {
        "ts": START_S + i * 0.25, "uid": f"C{i}x", "id.orig_h": f"10.0.0.{i % 250 + 1}",
        "id.orig_p": 40000 + i % 999, "id.resp_h": "2001:db8::9" if i % 7 == 3 else "10.0.9.9",
        "id.resp_p": (80, 53, 3)[i % 3], "proto": ("tcp", "udp", "icmp")[i % 3], "service": "http",
        "duration": 0.5, "orig_bytes": 100, "resp_bytes": 900, "conn_state": "SF", "missed_bytes": 0,
        "orig_pkts": 4, "orig_ip_bytes": 300, "resp_pkts": 5, "resp_ip_bytes": 1200,
    }  # fmt: skip
    return record | {name.replace("__", "."): value for name, value in changes.items()}


def header(fields: tuple[str, ...] = FIELDS, separator: str = "\t") -> str:
    """Return the header of a table, as Zeek writes it."""
    code = f"\\x{ord(separator):02x}"
    lines = [
        f"#separator {code}", f"#set_separator{separator},", f"#empty_field{separator}(empty)",
        f"#unset_field{separator}-", f"#path{separator}conn", f"#open{separator}2024-01-02-03-04-05",
        separator.join(["#fields", *fields]), separator.join(["#types", *["string"] * len(fields)]),
    ]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def table_row(record: Mapping[str, Any], fields: tuple[str, ...] = FIELDS, separator: str = "\t") -> str:
    """Return a record as a line of a table; fields that it lacks are unset."""
    return separator.join(str(record.get(name, "-")) for name in fields)


def event(i: int = 0, flow: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a flow event of Suricata; changes of None leave a value out."""
    second = f"2024-01-02T03:{i // 60 % 60:02}:{i % 60:02}.{i // 3600:06}"
    whole = {
        "timestamp": f"{second}+0000", "flow_id": 10**15 + i, "event_type": "flow",
        "src_ip": f"10.0.0.{i % 250 + 1}", "src_port": 40000, "dest_ip": "10.0.9.9", "dest_port": 443,
        "proto": "TCP", "app_proto": "tls",
        "flow": {
            "pkts_toserver": 6, "pkts_toclient": 7, "bytes_toserver": 700, "bytes_toclient": 9000,
            "start": f"{second}+0000", "end": f"{second}+0000", "age": 0, "state": "closed",
        } | dict(flow or {}),
        "tcp": {"tcp_flags": "1b", "tcp_flags_ts": "1b", "tcp_flags_tc": "1b", "syn": True},
    }  # fmt: skip
    return {name: value for name, value in (whole | changes).items() if value is not None}


def _spoiled(line: bytes, i: int) -> bytes:
    """Break some records, each in another way."""
    ways = {
        5: line[: len(line) // 2], 11: line.replace(b"10.0.9.9", b"10.0.9.").replace(b"::9", b"::g"),
        17: line.replace(b"10.0.0.", b"10.0.0.\xff", 1), 23: line.replace(b"10.0.0.", b"10.0.0.\0", 1),
        29: b"?" * 70_000, 31: b"",
    }  # fmt: skip
    return ways.get(i, line)


def _write(path: Path, lines: list[str], before: str = "") -> Path:
    content = before.encode() + b"\r\n".join(_spoiled(line.encode(), i) for i, line in enumerate(lines))
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def zeek_table(folder: Path, n: int, name: str = "conn.log") -> Source:
    """Write a table whose header comes again in the middle, as of logs that were joined."""
    half = n // 2
    lines = [table_row(conn(i)) for i in range(n)]
    lines[half] = f"#close\t2024-01-02-04-00-00\r\n{header()}{lines[half]}"
    return ZeekSource(_write(folder / name, lines, header()))


def zeek_json(folder: Path, n: int) -> Source:
    """Write JSON lines of Zeek."""
    return ZeekSource(_write(folder / "conn.log", [json.dumps(conn(i)) for i in range(n)]))


def suricata(folder: Path, n: int) -> Source:
    """Write an eve.json: a flow event after each of another type."""
    events = [event(i) if i % 2 else {"timestamp": "x", "event_type": "dns", "i": i} for i in range(n)]
    return SuricataSource(_write(folder / "eve.json", [json.dumps(e, separators=(",", ":")) for e in events]))
