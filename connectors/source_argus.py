"""Argus flows as comma text with a header (`ra -c ,`, binetflow) or Parquet, as of the CTU captures.

Argus reports both directions of a flow in one record. Its source is the originator, except where the arrow
in `Dir` has a head on the left only (`<-`): there the sides are swapped, with their bytes, packets and flags.
Arrows with a `?` say that Argus did not see the beginning; its guess is kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from connectors import layouts
from connectors.labels import HARMLESS
from connectors.layouts import ARGUS, ARGUS_TOTALS, Layout
from connectors.protocols import PORT_PROTOCOLS, protocol_name
from connectors.records import CONN
from connectors.source_table import Dataset, TableSource
from connectors.table_fields import Fields, ended, renamed

_PROTOCOLS = {"rtp": "udp", "rtcp": "udp", "udt": "udp", "ipv6-icmp*": "ipv6-icmp"}
_EXCHANGES = ("CON", "ACC", "EST", "FIN", "CLO", "INT", "REQ", "ECO", "ECR")
_REQUESTS = ("INT", "REQ", "ECO")
_ANSWERING = (*PORT_PROTOCOLS, "icmp", "ipv6-icmp")


class ArgusSource(TableSource):
    """Flows of one Argus file; see `TableSource`.

    Examples
    --------
    >>> recognises(b"StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,TotPkts,TotBytes,SrcBytes")
    True
    """

    def __init__(self, path: Path, *, sensor: str | None = None) -> None:
        super().__init__(path, ARGUS_FLOWS, sensor=sensor)


def recognises(head: bytes) -> bool:
    """Say whether a text file that begins so holds Argus flows."""
    return recognises_columns(layouts.first_names(head))


def recognises_columns(names: Sequence[str]) -> bool:
    """Say whether a table with these columns holds Argus flows."""
    return not ARGUS_TOTALS.missing(names)


def _conn(fields: Fields, layout: Layout) -> Mapping[str, pa.Array]:
    protocol = _protocols(fields)
    has_ports = pc.is_in(protocol, pa.array(PORT_PROTOCOLS))
    swapped = pc.match_substring_regex(fields.text("dir"), "^<[^>]*$")
    duration = fields.number("dur")
    src_ip, dst_ip = _swap(swapped, fields.address("srcaddr"), fields.address("dstaddr"))
    src_port, dst_port = _swap(swapped, fields.port("sport", has_ports), fields.port("dport", has_ports))
    src_bytes = fields.count("srcbytes")
    src_bytes, dst_bytes = _swap(swapped, src_bytes, pc.subtract(fields.count("totbytes"), src_bytes))
    src_packets, dst_packets = _swap(swapped, *_packets(fields, layout))
    silent = pc.and_(pc.equal(dst_bytes, 0), pc.less_equal(dst_packets, 0))
    return {
        "event_time": ended(fields.time("starttime"), duration),
        "src_ip": src_ip,
        "dst_ip": dst_ip,
        "src_port": src_port,
        "dst_port": dst_port,
        "protocol": protocol,
        "label": _labels(fields),
        "duration": duration,
        "src_bytes": src_bytes,
        "dst_bytes": pc.if_else(silent, None, dst_bytes),
        "src_packets": src_packets,
        "dst_packets": pc.if_else(silent, None, dst_packets),
        "state": _states(fields.text("state"), protocol, swapped, silent, dst_packets),
    }


def _swap(swapped: pa.Array, src: pa.Array, dst: pa.Array) -> tuple[pa.Array, pa.Array]:
    return pc.if_else(swapped, dst, src), pc.if_else(swapped, src, dst)


def _protocols(fields: Fields) -> pa.Array:
    """Return protocols by name; Argus calls some udp by what it carries."""
    lower = pc.utf8_lower(fields.text("proto"))
    return renamed(lower, lambda name: _PROTOCOLS.get(name, protocol_name(name)))


def _packets(fields: Fields, layout: Layout) -> tuple[pa.Array, pa.Array]:
    """Return packets by side: as written, or of a file with totals only half of them to each.

    Half is exact for 99 % of the udp and within a third for 95 % of the tcp flows of a public file that
    has both columns; a split by bytes is five times further off.
    """
    total = fields.count("totpkts")
    if layout is ARGUS:
        src = fields.count("srcpkts")
        return src, pc.subtract(total, src)
    one_way = pc.equal(fields.count("srcbytes"), fields.count("totbytes"))
    none = pc.equal(fields.count("srcbytes"), 0)
    dst = pc.if_else(one_way, 0, pc.if_else(none, total, pc.divide(total, 2)))
    return pc.subtract(total, dst), dst


def _labels(fields: Fields) -> pa.Array:
    if "label" not in fields:
        return pa.nulls(len(fields), pa.string())
    return renamed(fields.text("label"), _label)


def _label(text: str) -> str | None:
    """Name a label: `flow=Background-UDP-Established` and `flow=From-Normal-V42-Jist` are normal."""
    lower = text.lower()
    harmless = any(word in lower for word in HARMLESS) and "botnet" not in lower
    return "normal" if harmless else text or None


def _states(
    words: pa.Array, protocol: pa.Array, swapped: pa.Array, silent: pa.Array, dst_packets: pa.Array
) -> pa.Array:
    """Return states; each distinct case is judged once."""
    short = pc.less_equal(dst_packets, 1)
    asks = pc.is_in(protocol, pa.array(_ANSWERING))
    marks = [
        pc.if_else(pc.fill_null(mask, fill_value=False), "1", "0") for mask in (swapped, silent, short, asks)
    ]
    return renamed(pc.binary_join_element_wise(*marks, words, ""), _state)


def _state(case: str) -> str:
    swapped, silent, short, asks = (mark == "1" for mark in case[:4])
    word = case[4:].upper()
    if "_" in word:
        src, _, dst = word.partition("_")
        return _of_flags(*((dst, src) if swapped else (src, dst)))
    if word == "RST" and not silent:
        return "rejected" if short else "reset"
    if word in _EXCHANGES and not silent:
        return "established"
    return "attempted" if word in _REQUESTS and silent and asks else "other"


def _of_flags(src: str, dst: str) -> str:
    """Return the state of a tcp flow from the flags that each side has sent (`FSPA_SRA`).

    - Unanswered: `attempted` if it asked (S), else `other`: half of a flow that began before.
    - A SYN answered by R without S: `rejected`.
    - R on any side of one that was answered: `reset`, though both may have sent F before.
    - Everything else that was answered: `established`.
    """
    if not dst:
        return "attempted" if "S" in src else "other"
    if "R" in dst and "S" not in dst and set(src) <= set("SRECW"):
        return "rejected" if "S" in src else "other"
    if not src:
        return "other"
    return "reset" if "R" in src + dst else "established"


def _notes(layout: Layout) -> tuple[str, ...]:
    estimated = (
        "The file has packets in total only (no SrcPkts): src_packets and dst_packets are estimates, half of "
        "TotPkts each; exact for one-way flows."
    )
    return (
        "The originator is Argus' source; where the arrow points left (<-), the sides are swapped.",
        "Bytes are those of the transaction as Argus counts them, headers included.",
        "StartTime is taken as UTC where it has no zone: Argus writes the local time of where it ran.",
        "A label that says background, normal or benign is called normal; nobody has looked at background.",
        *((estimated,) if layout is ARGUS_TOTALS else ()),
    )


ARGUS_FLOWS = Dataset(
    name="argus", record_type=CONN, layouts=(ARGUS, ARGUS_TOTALS), convert=_conn, notes=_notes
)
"""Bidirectional Argus flows; label: the file's, or `normal`."""
