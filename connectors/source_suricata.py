"""Suricata's EVE log, its events of type `flow`, as flows of type conn@1.

Direction is Suricata's: the side that opened the flow is the source ("toserver"). Events of other types
(alert, dns, http ...) hold no flows and are passed over; so are `netflow` events, which tell the same flows
once more, one way at a time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.lines import TextFile
from connectors.protocols import PORT_PROTOCOLS
from connectors.records import TIME
from connectors.source_lines import Count, LineSource, Parsed, columns_of, decoded, lower
from connectors.table_fields import Fields, mask_of, renamed

NAME = "suricata"
_SYN, _RST = 0x02, 0x04
_SERVICES = {"failed": None, "unknown": None, "": None, "tls": "ssl", "krb5": "krb"}
"""Suricata's names where Zeek has others; `failed` means that none was recognised."""


class SuricataSource(LineSource):
    """Flows of an eve.json; see `LineSource`.

    The flow's id is Suricata's flow_id with the time of the flow's start, since the number alone comes again.
    """

    def __init__(self, path: Path | TextFile, *, sensor: str | None = None) -> None:
        file = TextFile(path) if isinstance(path, Path) else path
        super().__init__(file, _Eve, sensor=sensor)


def recognises(head: bytes) -> bool:
    """Say whether a file begins as an eve.json does."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and b'"event_type"' in first and b'"timestamp"' in first


class _Flow(msgspec.Struct, gc=False):
    start: str
    end: str | None = None
    pkts_toserver: Count = 0
    pkts_toclient: Count = 0
    bytes_toserver: Count = 0
    bytes_toclient: Count = 0


class _Tcp(msgspec.Struct, gc=False):
    """Flags are sums over all packets of a direction, in hex."""

    tcp_flags_ts: str | None = None
    tcp_flags_tc: str | None = None


class _Event(msgspec.Struct, gc=False):
    """A flow event."""

    event_type: Literal["flow"]
    timestamp: str
    flow_id: Count
    src_ip: str
    dest_ip: str
    proto: str
    flow: _Flow
    src_port: Count | None = None
    dest_port: Count | None = None
    icmp_type: Count | None = None
    app_proto: str | None = None
    tcp: _Tcp | None = None


class _Any(msgspec.Struct, gc=False):
    """An event of any type."""

    event_type: str


_MARK = b'"event_type":"flow"'  # as Suricata writes it: such a line need not be asked for its type first


class _Eve:
    """A JSON object a line."""

    name = NAME
    about = "Suricata's eve.json"
    notes: tuple[str, ...] = (
        "Events of type flow are read, others passed over.",
        "Bytes are those of whole packets, headers included, as Suricata counts them.",
        "Source is the side that opened the flow, as Suricata saw it.",
    )
    headers: tuple[bytes, ...] = (b"#",)

    def __init__(self) -> None:
        # Not strict: on their way through other tools numbers become text.
        self._type_of = msgspec.json.Decoder(_Any).decode
        self._decode = msgspec.json.Decoder(_Event, strict=False).decode

    def take_header(self, line: bytes) -> None:
        """Pass over a line that some tools write above the events."""

    def parse(self, lines: Sequence[bytes]) -> Parsed:
        """Decode the flow events among the lines, each alone."""
        others = [i for i, line in enumerate(lines) if _MARK not in line]
        found, at, faults = decoded(self._type_of, [lines[i] for i in others])
        unlike = {others[i] for event, i in zip(found, at, strict=True) if event.event_type != "flow"}
        faults = {others[i]: fault for i, fault in faults.items()}
        flows = [i for i in range(len(lines)) if i not in unlike and i not in faults]
        events, rows, broken = decoded(self._decode, [lines[i] for i in flows])
        faults |= {flows[row]: fault for row, fault in broken.items() if self._is_flow(lines[flows[row]])}
        return Parsed(rows=[flows[row] for row in rows], columns=_columns(events), faults=faults)

    def _is_flow(self, line: bytes) -> bool:
        """Say of a line that cannot be read as a flow event whether it should be one."""
        found, _, _ = decoded(self._type_of, [line])
        return not found or found[0].event_type == "flow"

    def convert(self, fields: Fields) -> Mapping[str, pa.Array]:
        """Return the columns of conn@1."""
        return _conn(fields)


def _columns(events: Sequence[_Event]) -> dict[str, pa.Array]:
    flows, tcp, none = [event.flow for event in events], [event.tcp for event in events], _Tcp()
    values = columns_of(_Event, events) | columns_of(_Flow, flows)
    values |= columns_of(_Tcp, [flags or none for flags in tcp])
    return {name: pa.array(cells) for name, cells in values.items() if name not in ("flow", "tcp")}


def _conn(fields: Fields) -> Mapping[str, pa.Array]:
    protocol = lower(fields, "proto")
    # An event without an end is of a flow that goes on: it was seen until the event was written.
    ends = pc.coalesce(_times(fields, "end"), _times(fields, "timestamp"))
    start_us, end_us = (times.cast(pa.int64()) for times in (_times(fields, "start"), ends))
    dst_packets = fields.count("pkts_toclient")
    answered = pc.greater(dst_packets, 0)
    has_ports = pc.is_in(protocol, pa.array(PORT_PROTOCOLS))
    return {
        "flow_id": pc.binary_join_element_wise(fields.text("flow_id"), start_us.cast(pa.string()), "-"),
        "event_time": ends,
        "src_ip": fields.address("src_ip"),
        "dst_ip": fields.address("dest_ip"),
        "src_port": pc.if_else(has_ports, fields.port("src_port"), None),
        "dst_port": pc.if_else(has_ports, fields.port("dest_port"), None),
        "protocol": protocol,
        "label": pa.nulls(len(fields), pa.string()),
        "duration": pc.divide(pc.subtract(end_us, start_us).cast(pa.float64()), 1e6),
        "src_bytes": fields.count("bytes_toserver"),
        "dst_bytes": pc.if_else(answered, fields.count("bytes_toclient"), None),
        "src_packets": fields.count("pkts_toserver"),
        "dst_packets": pc.if_else(answered, dst_packets, None),
        "service": _services(fields),
        "state": _states(fields, protocol, answered),
    }


def _times(fields: Fields, name: str) -> pa.Array:
    """Return a column of times, as Suricata writes them or in another way."""
    text = fields.text(name)
    try:
        return pc.if_else(pc.equal(text, ""), None, text).cast(TIME)
    except pa.ArrowInvalid:
        return fields.time(name)


def _services(fields: Fields) -> pa.Array:
    return renamed(pc.utf8_lower(fields.text("app_proto")), lambda name: _SERVICES.get(name, name))


def _states(fields: Fields, protocol: pa.Array, answered: pa.Array) -> pa.Array:
    """Tell states by the TCP flags of both sides, elsewhere by whether there was an answer.

    - Unanswered TCP, UDP or SCTP, and an unanswered ICMP echo request: `attempted`.
    - TCP whose answer was a RST before any SYN: `rejected`; another RST: `reset`.
    - Answered, and for TCP with a SYN from both sides: `established`.
    - Everything else, as TCP whose beginning was not seen: `other`.
    """
    is_tcp = mask_of(pc.equal(protocol, "tcp"))
    replied = mask_of(answered)
    asks = mask_of(pc.is_in(protocol, pa.array(PORT_PROTOCOLS))) | mask_of(
        pc.is_in(fields.text("icmp_type"), pa.array(["8", "128"]))
    )
    ours, theirs = _flags(fields, "tcp_flags_ts"), _flags(fields, "tcp_flags_tc")
    opened, accepted = ours & _SYN > 0, theirs & _SYN > 0
    refused = is_tcp & replied & opened & ~accepted & (theirs & _RST > 0)
    states = np.select(
        [
            ~replied & asks,
            refused,
            is_tcp & replied & ((ours | theirs) & _RST > 0),
            replied & (~is_tcp | (opened & accepted)),
        ],
        ["attempted", "rejected", "reset", "established"],
        "other",
    )
    return pa.array(states.tolist(), pa.string())


def _flags(fields: Fields, name: str) -> npt.NDArray[np.int64]:
    """Return the TCP flags that are written in hex; 0 where there are none."""
    return np.asarray(renamed(fields.text(name), _hex, pa.int64()), dtype=np.int64)


def _hex(text: str) -> int:
    try:
        return int(text, 16) & 0xFF
    except ValueError:
        return 0
