"""Flows in the JSON that `nfdump -o json` prints: an array with one field a line, or one flow a line.

The text is cut at the lines that end an object, so one broken record spoils no other, and memory is bounded.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from connectors.flow_states import states_of
from connectors.protocols import PORT_PROTOCOLS, protocol_name
from connectors.table_fields import Fields, renamed

LONGEST_RECORD = 65_536
"""Bytes; a longer record is none (nfdump's have about 700)."""

_BETWEEN = b" \t\r\n,[]"  # what stands between two records
_NOTHING = b"No matching flows"
_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
_KIND = re.compile(rb'"type"\s*:\s*"(FLOW|EVENT)"')
_TIME = re.compile(rb'"(t_)?first"\s*:\s*"')

Whole = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Fault = tuple[str, str]
"""Reason and detail of a text that is no flow."""


class Flow(msgspec.Struct):
    """The fields of a record that are read; nfdump 1.6 calls the times `t_first` and `t_last`."""

    type: str = "FLOW"
    first: str | None = None
    last: str | None = None
    t_first: str | None = None
    t_last: str | None = None
    proto: Whole | None = None
    tcp_flags: str | None = None
    src_port: Whole | None = None
    dst_port: Whole | None = None
    src4_addr: str | None = None
    dst4_addr: str | None = None
    src6_addr: str | None = None
    dst6_addr: str | None = None
    in_packets: Whole | None = None
    in_bytes: Whole | None = None
    out_packets: Whole | None = None
    out_bytes: Whole | None = None


_NUMBERS = ("proto", "src_port", "dst_port", "in_packets", "in_bytes", "out_packets", "out_bytes")
_ONE = msgspec.json.Decoder(Flow)
_MANY = msgspec.json.Decoder(list[Flow])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one record, and the line on which it begins, from 1."""

    raw: bytes
    line: int


def recognises(head: bytes) -> bool:
    r"""Say whether a text that begins so is what nfdump prints as JSON.

    Examples
    --------
    >>> recognises(b'[{\n"type" : "FLOW",\n"first" : "2018-01-12T15:37:30.942",\n"in_packets" : 1')
    True
    """
    opened = head.lstrip(b"\xef\xbb\xbf" + _BETWEEN).startswith(b"{") and end_of_records(head)
    return bool(opened and _KIND.search(head) and _TIME.search(head) and b'"in_packets"' in head)


def end_of_records(text: bytes) -> bytes:
    """Return what ends each record: a line end, or a brace below the first one; nothing: it does not say."""
    begin = text.find(b"{")
    end = text.find(b"\n", begin)
    if begin < 0 or end < 0:
        return b""
    if text[begin:end].rstrip(_BETWEEN).endswith(b"}"):
        return b"\n"
    indent = text[text.rfind(b"\n", 0, begin) + 1 : begin]
    return b"\n" + (indent if indent.isspace() else b"") + b"}"


def pieces(parts: Iterable[bytes]) -> Iterator[Piece]:
    """Cut the text that `parts` make up into records; a record without its end is one, too."""
    held, line, end = b"", 1, b""
    for part in parts:
        held += part
        end = end or end_of_records(held)
        if end and end in held:
            text, _, held = held.rpartition(end)
            yield from _cut(text, end, line)
            line += text.count(b"\n") + 1
        if len(held) > LONGEST_RECORD + len(end):
            # Only the beginning is kept, and what may be a part of the end.
            line += held.count(b"\n", LONGEST_RECORD, len(held) - len(end))
            held = held[:LONGEST_RECORD] + held[len(held) - len(end) :]
    rest = held.strip(_BETWEEN)
    if rest and rest != _NOTHING:
        yield Piece(rest, line + _blank_lines(held))


def _cut(text: bytes, end: bytes, line: int) -> Iterator[Piece]:
    closing = b"" if end == b"\n" else end
    for part in text.split(end):
        # A record that lost its end would take the next one with it.
        *open_ones, last = _alone(part, closing.replace(b"}", b"{"))
        for raw in open_ones:
            if record := raw.strip(_BETWEEN):
                yield Piece(record, line + _blank_lines(raw))
            line += raw.count(b"\n")
        record = last.lstrip(_BETWEEN) + closing if closing else last.strip(_BETWEEN)
        if record:
            yield Piece(record, line + _blank_lines(last))
        line += last.count(b"\n") + 1


def _alone(part: bytes, begin: bytes) -> list[bytes]:
    """Return a text cut before each line that begins a record but is not its first."""
    if not begin or begin not in part.lstrip(_BETWEEN):
        return [part]
    blank = len(part) - len(part.lstrip(_BETWEEN))
    first, *others = part[blank:].split(begin)
    return [part[:blank] + first, *(begin + other for other in others)]


def _blank_lines(raw: bytes) -> int:
    return raw[: len(raw) - len(raw.lstrip(_BETWEEN))].count(b"\n")


def decoded(raws: Sequence[bytes]) -> list[Flow | Fault]:
    """Return each record, or what is wrong with it."""
    try:
        flows = _MANY.decode(b"[" + b",".join(raws) + b"]")
    except _UNREADABLE:
        return [_decoded(raw) for raw in raws]
    # Text with a comma of its own could be two records.
    if len(flows) != len(raws) or any(flow.type != "FLOW" for flow in flows):
        return [_decoded(raw) for raw in raws]
    return [*flows]


def _decoded(raw: bytes) -> Flow | Fault:
    if len(raw) > LONGEST_RECORD:
        return "record_too_long", f"more than {LONGEST_RECORD} bytes without an end, expected a flow"
    try:
        flow = _ONE.decode(raw)
    except msgspec.ValidationError as error:
        return "unreadable_value", f"{error}"
    except _UNREADABLE as error:
        cut = "" if raw.endswith(b"}") else "; it breaks off"
        return "not_json", f"no JSON object ({' '.join(str(error).split())}){cut}"
    if flow.type != "FLOW":
        return "not_a_flow", f"a record of type {flow.type[:40]!r}, expected FLOW"
    return flow


def cells(flows: Sequence[Flow]) -> dict[str, pa.Array]:
    """Return the fields of records by column."""
    columns = {
        name: pa.array(
            [getattr(flow, name) for flow in flows], pa.int64() if name in _NUMBERS else pa.string()
        )
        for name in Flow.__struct_fields__
    }
    for name in ("first", "last"):
        columns[name] = _milliseconds(pc.coalesce(columns[name], columns[f"t_{name}"]))
    for side in ("src", "dst"):
        columns[f"{side}_addr"] = pc.coalesce(columns[f"{side}4_addr"], columns[f"{side}6_addr"])
    return columns


def _milliseconds(times: pa.Array) -> pa.Array:
    """Return times with three digits after the point: nfdump 1.6 writes 7 ms as `.7`."""
    times = pc.replace_substring_regex(times, r"\.(\d)$", r".0\1")
    return pc.replace_substring_regex(times, r"\.(\d\d)$", r".0\1")


def convert(fields: Fields) -> dict[str, pa.Array]:
    """Return the columns of conn@1 but for sensor, flow_id and position.

    Records of one direction, the usual ones, stay so: what came back is null.
    """
    protocol = _protocols(fields)
    has_ports = pc.is_in(protocol, pa.array(PORT_PROTOCOLS))
    last = fields.time("last")
    span_us = pc.subtract(last.cast(pa.int64()), fields.time("first").cast(pa.int64()))
    packets, out_packets, out_bytes = (
        fields.count(name) for name in ("in_packets", "out_packets", "out_bytes")
    )
    back = pc.or_kleene(pc.not_equal(out_packets, 0), pc.not_equal(out_bytes, 0))
    dst_packets = pc.if_else(back, out_packets, None)
    return {
        "event_time": last,
        "src_ip": fields.address("src_addr"),
        "dst_ip": fields.address("dst_addr"),
        "src_port": fields.port("src_port", has_ports),
        "dst_port": fields.port("dst_port", has_ports),
        "protocol": protocol,
        "duration": pc.divide(span_us.cast(pa.float64()), 1e6),
        "src_bytes": fields.count("in_bytes"),
        "dst_bytes": pc.if_else(back, out_bytes, None),
        "src_packets": packets,
        "dst_packets": dst_packets,
        "state": states_of(protocol, _flags(fields), packets, dst_packets),
    }


def _protocols(fields: Fields) -> pa.Array:
    return renamed(fields.count("proto"), lambda number: protocol_name(str(number)))


def _flags(fields: Fields) -> pa.Array:
    """Return the bits of flags written as `...AP.SF`; null where there are none."""
    return renamed(fields.text("tcp_flags"), _bits, pa.int64())


def _bits(text: str) -> int | None:
    return sum(_FLAGS.get(letter, 0) for letter in {*text}) or None
