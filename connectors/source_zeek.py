"""Zeek's conn.log, TSV or JSON lines, as flows of type conn@1.

Direction is Zeek's: the originator is the source, the responder the destination. Zeek corrects it where it
sees only the end of a handshake (`^` in the history).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import NotYetError, SourceError
from connectors.labels import label_of
from connectors.lines import TextFile
from connectors.protocols import PORT_PROTOCOLS
from connectors.source_lines import (
    Count,
    Fault,
    LineFormat,
    LineSource,
    Parsed,
    begins,
    columns_of,
    decoded,
    ended_at,
    lower,
)
from connectors.table_fields import Fields, renamed
from connectors.table_file import split_cells

NAME = "zeek"
NOTES = (
    "Bytes are payload bytes as Zeek counts them, never more than the IP bytes that it saw.",
    "Source is the originator, destination the responder, as Zeek settled it.",
)

_STATES = {
    "S0": "attempted",  # a SYN, no answer
    "REJ": "rejected",
    "SF": "established",
    "S1": "established",
    "S2": "established",
    "S3": "established",
    "RSTO": "reset",
    "RSTR": "reset",
    "RSTOS0": "attempted",  # a SYN, then a RST by the originator, no answer
    "SH": "attempted",  # a SYN, then a FIN, no answer
    "RSTRH": "other",  # half of the connection was not seen
    "SHR": "other",
    "OTH": "other",
}
_ECHO_REQUESTS = ("8", "128")  # ICMP, ICMPv6: Zeek writes the type in place of the source port
_MILLISECONDS_FROM = 1e11
"""A time stamp above this is in milliseconds (1e11 s is the year 5138)."""


class ZeekSource(LineSource):
    """Flows of a conn.log; see `LineSource`.

    The flow's id is Zeek's uid. A file of JSON lines and one of tab-separated columns with their
    `#fields` line are told apart by their beginning.
    """

    def __init__(self, path: Path | TextFile, *, sensor: str | None = None) -> None:
        file = TextFile(path) if isinstance(path, Path) else path
        super().__init__(file, form_of(file), sensor=sensor)


def form_of(file: TextFile) -> Callable[[], LineFormat]:
    """Return how a conn.log is written.

    Raises
    ------
    SourceError
        If it cannot be read, is empty, or is neither.
    """
    head = file.head().lstrip()
    if head.startswith(b"{"):
        return _Json
    if head.startswith(b"#"):
        return _Table
    if file.grows and not begins(head):
        raise NotYetError(f"{file.path}: no record yet, expected Zeek's conn.log")
    found = f"it begins with {head[:40]!r}" if head else "it is empty"
    raise SourceError(
        f"{file.path}: {found}, expected Zeek's conn.log: JSON objects, or columns behind a #fields line"
    )


def recognises(head: bytes) -> bool:
    """Say whether a file begins as a conn.log does."""
    head = head.lstrip()
    first = head.split(b"\n", 1)[0]
    if first.startswith(b"#"):
        fields = next((line for line in head.splitlines() if line.startswith(b"#fields")), b"")
        return b"uid" in fields and b"conn_state" in fields
    return first.startswith(b"{") and all(key in first for key in (b'"uid"', b'"id.orig_h"', b'"conn_state"'))


_REQUIRED = (
    "ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "conn_state", "orig_pkts"
)  # fmt: skip
_OPTIONAL = (
    "service", "duration", "orig_bytes", "resp_bytes", "missed_bytes", "orig_ip_bytes", "resp_pkts",
    "resp_ip_bytes", "label",
)  # fmt: skip


class _Table:
    """Columns between separators, named by the `#fields` line above them."""

    name = NAME
    about = "Zeek's conn.log"
    notes: tuple[str, ...] = NOTES
    headers: tuple[bytes, ...] = (b"#", b"\t#", b" #")

    def __init__(self) -> None:
        self._separator = b"\t"
        self._unset = "-"
        self._empty = "(empty)"
        self._names: list[str] = []

    def take_header(self, line: bytes) -> None:
        """Take in a line such as `#fields`."""
        text = line.strip(b" \r\n").lstrip(b"\t").decode("utf-8", errors="replace")
        if text.startswith("#separator "):
            self._separator = _separator(text.removeprefix("#separator "))
            return
        key, *values = text.split(self._separator.decode())
        if key == "#fields":
            self._names = values
        elif key == "#unset_field" and values:
            self._unset = values[0]
        elif key == "#empty_field" and values:
            self._empty = values[0]

    def parse(self, lines: Sequence[bytes]) -> Parsed:
        """Split lines at the separators; each needs as many cells as there are fields."""
        if missing := [name for name in _REQUIRED if name not in self._names]:
            detail = f"no #fields line with {', '.join(missing)} stands above it, expected that of a conn.log"
            return Parsed(rows=(), columns={}, faults=dict.fromkeys(range(len(lines)), ("no_header", detail)))
        separators = len(self._names) - 1
        faults = {
            i: self._fault(line)
            for i, line in enumerate(lines)
            if line.count(self._separator) != separators or b"\r" in line
        }
        rows = [i for i in range(len(lines)) if i not in faults]
        cells = split_cells([lines[i] for i in rows], self._names, delimiter=self._separator.decode())
        return Parsed(rows=rows, columns=self._columns(cells, len(rows)), faults=faults)

    def _fault(self, line: bytes) -> Fault:
        found, expected = line.count(self._separator) + 1, len(self._names)
        if found != expected:
            return "wrong_field_count", f"{found} fields, expected the {expected} of the #fields line"
        return "stray_line_break", "a carriage return inside the line, expected none"

    def _columns(self, cells: Mapping[str, pa.Array], n_rows: int) -> dict[str, pa.Array]:
        """Return the cells of the fields that are read, empty where Zeek says that there is no value."""
        nothing = pa.array([self._unset, self._empty])
        absent = pa.repeat("", n_rows)
        return {
            name: pc.if_else(pc.is_in(cells[name], nothing), "", cells[name]) if name in cells else absent
            for name in (*_REQUIRED, *_OPTIONAL)
        }

    def convert(self, fields: Fields) -> Mapping[str, pa.Array]:
        """Return the columns of conn@1."""
        return _conn(fields)


def _separator(text: str) -> bytes:
    r"""Return the separator that a header names: one character, escaped as in `\x09`."""
    code = bytes.fromhex(text[2:4]) if re.fullmatch(r"\\x[0-9a-fA-F]{2}", text) else text.encode()
    return code if len(code) == 1 and code < b"\x80" else b"\t"


class _Conn(msgspec.Struct, gc=False):
    """A record in JSON; fields without a value are absent, or null."""

    ts: float | str
    uid: str
    proto: str
    conn_state: str
    orig_pkts: Count
    orig_h: str = msgspec.field(name="id.orig_h")
    orig_p: Count = msgspec.field(name="id.orig_p")
    resp_h: str = msgspec.field(name="id.resp_h")
    resp_p: Count = msgspec.field(name="id.resp_p")
    service: str | None = None
    duration: float | None = None
    orig_bytes: Count | None = None
    resp_bytes: Count | None = None
    missed_bytes: Count | None = None
    orig_ip_bytes: Count | None = None
    resp_pkts: Count | None = None
    resp_ip_bytes: Count | None = None
    label: str | None = None


class _Json:
    """A JSON object a line."""

    name = NAME
    about = "Zeek's conn.log as JSON lines"
    notes: tuple[str, ...] = NOTES
    headers: tuple[bytes, ...] = (b"#",)  # some tools leave the header of the table above the objects

    def __init__(self) -> None:
        # Not strict: on their way through other tools numbers become text.
        self._decode = msgspec.json.Decoder(_Conn, strict=False).decode

    def take_header(self, line: bytes) -> None:
        """Take in a line that says nothing of the objects below it."""

    def parse(self, lines: Sequence[bytes]) -> Parsed:
        """Decode lines, each alone."""
        found, rows, faults = decoded(self._decode, lines)
        values = columns_of(_Conn, found)
        columns = {name: pa.array(cells) for name, cells in values.items() if name != "ts"}
        columns["ts"] = pa.array([_seconds(ts) for ts in values["ts"]], pa.float64())
        return Parsed(rows=rows, columns=columns, faults=faults)

    def convert(self, fields: Fields) -> Mapping[str, pa.Array]:
        """Return the columns of conn@1."""
        return _conn(fields)


def _seconds(ts: float | str) -> float | None:
    """Return a time stamp in seconds, whether Zeek wrote seconds, milliseconds or ISO 8601."""
    if isinstance(ts, str):
        text = ts
        try:
            ts = float(text)
        except ValueError:
            return _iso_seconds(text)
    return ts / 1e3 if ts > _MILLISECONDS_FROM else ts


def _iso_seconds(text: str) -> float | None:
    """Return a date's seconds since 1970; one without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _conn(fields: Fields) -> Mapping[str, pa.Array]:
    protocol = _protocols(fields)
    src_packets, dst_packets = fields.count("orig_pkts"), fields.count("resp_pkts")
    dst_bytes = _payload(fields, "resp_bytes", "resp_ip_bytes")
    answered = pc.greater(pc.coalesce(dst_packets, dst_bytes), 0)
    has_ports = pc.is_in(protocol, pa.array(PORT_PROTOCOLS))
    duration = pc.fill_null(fields.number("duration"), 0.0)
    service = pc.utf8_lower(pc.list_element(pc.split_pattern(fields.text("service"), ","), 0))
    return {
        "flow_id": fields.text("uid"),
        "event_time": ended_at(fields.number("ts"), duration),
        "src_ip": fields.address("id.orig_h"),
        "dst_ip": fields.address("id.resp_h"),
        "src_port": pc.if_else(has_ports, fields.port("id.orig_p"), None),
        "dst_port": pc.if_else(has_ports, fields.port("id.resp_p"), None),
        "protocol": protocol,
        "label": renamed(fields.text("label"), label_of),
        "duration": duration,
        "src_bytes": _payload(fields, "orig_bytes", "orig_ip_bytes"),
        "dst_bytes": pc.if_else(answered, dst_bytes, None),
        "src_packets": src_packets,
        "dst_packets": pc.if_else(answered, dst_packets, None),
        "service": pc.if_else(pc.is_in(service, pa.array(["", "-"])), None, service),
        "state": _states(fields, protocol, answered),
    }


def _protocols(fields: Fields) -> pa.Array:
    """Return the protocols; Zeek has one name for both kinds of ICMP."""
    protocol = lower(fields, "proto")
    is_v6 = pc.and_(pc.equal(protocol, "icmp"), pc.match_substring(fields.text("id.orig_h"), ":"))
    return pc.if_else(is_v6, "ipv6-icmp", protocol)


def _payload(fields: Fields, name: str, ip_name: str) -> pa.Array:
    """Return payload bytes, at most the IP bytes: Zeek takes them from TCP sequence numbers, which may lie.

    What it missed is added to what it saw; 0 where it saw no payload.
    """
    seen = pc.add(fields.count(ip_name), pc.fill_null(fields.count("missed_bytes"), 0))
    return pc.min_element_wise(pc.fill_null(fields.count(name), 0), seen)


def _states(fields: Fields, protocol: pa.Array, answered: pa.Array) -> pa.Array:
    """Map Zeek's states; of ICMP, where it knows none, an echo request without an answer is an attempt."""
    told = renamed(pc.utf8_upper(fields.text("conn_state")), lambda word: _STATES.get(word, "other"))
    is_icmp = pc.is_in(protocol, pa.array(["icmp", "ipv6-icmp"]))
    asks = pc.is_in(fields.text("id.orig_p"), pa.array(_ECHO_REQUESTS))
    icmp = pc.if_else(pc.fill_null(answered, False), "established", pc.if_else(asks, "attempted", "other"))
    return pc.if_else(is_icmp, icmp, told)
