"""CICFlowMeter flows as comma text with a header or Parquet: CIC-IDS2017, CSE-CIC-IDS2018, CICFlowMeter 4.

CICFlowMeter reports both directions of a flow in one record; its forward direction is that of the first
packet it saw, so the source is the originator, except for flows that it cut in two (at a FIN, or after
two minutes): the second piece may begin with either side.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors import layouts
from connectors.labels import label_of
from connectors.layouts import CIC_FLOWS, CIC_PLAIN, CIC_TIMED, Layout
from connectors.protocols import PORT_PROTOCOLS, protocol_name
from connectors.records import CONN
from connectors.source_table import Dataset, TableSource, synthetic_times
from connectors.table_fields import Fields, ended, mask_of, renamed

START_US = 1_499_040_000_000_000
"""2017-07-03, the first day of CIC-IDS2017: where the synthetic times of files without times begin."""

Mask = npt.NDArray[np.bool_]

_WRITTEN = ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y %I:%M:%S %p")
_NO_WINDOW = -1  # `Init_Win_bytes_forward` of a flow that has no tcp window


class CicSource(TableSource):
    """Flows of one CICFlowMeter file; see `TableSource`."""

    def __init__(self, path: Path, *, sensor: str | None = None) -> None:
        super().__init__(path, CIC, sensor=sensor)


def recognises(head: bytes) -> bool:
    """Say whether a text file that begins so holds CICFlowMeter flows."""
    return recognises_columns(layouts.first_names(head))


def recognises_columns(names: Sequence[str]) -> bool:
    """Say whether a table with these columns holds CICFlowMeter flows."""
    return not CIC_PLAIN.missing(names)


def _conn(fields: Fields, layout: Layout) -> Mapping[str, pa.Array]:
    duration = pc.divide(fields.number("flowduration"), 1e6)
    silent = pc.equal(fields.count("totalbackwardpackets"), 0)
    identity = _identity(fields, layout)
    if layout is not CIC_PLAIN:
        identity["event_time"] = ended(fields.time("timestamp", *_WRITTEN), duration)
    return {
        **identity,
        "label": _labels(fields),
        "duration": duration,
        "src_bytes": fields.count("totallengthoffwdpackets"),
        "dst_bytes": pc.if_else(silent, None, fields.count("totallengthofbwdpackets")),
        "src_packets": fields.count("totalfwdpackets"),
        "dst_packets": pc.if_else(silent, None, fields.count("totalbackwardpackets")),
        "state": _states(fields, identity.get("protocol"), silent),
    }


def _identity(fields: Fields, layout: Layout) -> dict[str, pa.Array]:
    if layout is CIC_PLAIN:
        port = fields.port("destinationport")
        # 0 stands for protocols without ports, which such a file does not name.
        port = pc.if_else(pc.equal(port, 0), None, port)
        return {"event_time": synthetic_times(fields, START_US), "dst_port": port}
    protocol = _protocols(fields)
    has_ports = pc.is_in(protocol, pa.array(PORT_PROTOCOLS))
    identity = {"protocol": protocol, "dst_port": fields.port("destinationport", has_ports)}
    if layout is CIC_FLOWS:
        identity["src_ip"] = fields.address("sourceip")
        identity["dst_ip"] = fields.address("destinationip")
        identity["src_port"] = fields.port("sourceport", has_ports)
    return identity


def _protocols(fields: Fields) -> pa.Array:
    """Return protocols by name; 0, as CICFlowMeter calls all but tcp and udp, is null."""
    return renamed(fields.count("protocol"), lambda number: protocol_name(str(number)) if number else None)


def _labels(fields: Fields) -> pa.Array:
    if "label" not in fields:
        return pa.nulls(len(fields), pa.string())
    return renamed(fields.text("label"), label_of)


def _states(fields: Fields, protocol: pa.Array | None, silent: pa.Array) -> pa.Array:
    """Return states as far as CICFlowMeter's flag counts allow: who sent a flag is not in them.

    - Answered, with an RST: `rejected` if the answer was a single packet and nobody sent payload, else
      `reset`. Answered without: `established`.
    - Unanswered: `attempted` with a SYN and no RST, or if it is udp (in files without a protocol: without a
      tcp window); else `other`, for example the tail of a flow that was cut in two.

    The releases of 2017 and 2018 count the flags of few packets only, so `reset` is rarer than it was.
    """
    alone = mask_of(silent)
    syn, rst = _is_above(fields, "synflagcount", 0), _is_above(fields, "rstflagcount", 0)
    payload = _is_above(fields, "totallengthoffwdpackets", 0) | _is_above(
        fields, "totallengthofbwdpackets", 0
    )
    refused = rst & ~payload & ~_is_above(fields, "totalbackwardpackets", 1)
    asked = np.where(syn, ~rst, _is_udp(fields, protocol))
    states = np.select(
        [alone & asked, alone, refused, rst], ["attempted", "other", "rejected", "reset"], "established"
    )
    return pa.array(states.tolist(), pa.string())


def _is_udp(fields: Fields, protocol: pa.Array | None) -> Mask:
    if protocol is not None:
        return mask_of(pc.equal(protocol, "udp"))
    if "init_win_bytes_forward" not in fields:
        return np.zeros(len(fields), np.bool_)
    return mask_of(pc.equal(fields.number("init_win_bytes_forward"), _NO_WINDOW))


def _is_above(fields: Fields, name: str, least: int) -> Mask:
    return mask_of(pc.greater(fields.count(name), least))


_SYNTHETIC = "Event times are synthetic: 2017-07-03T00:00:00Z and 10 ms for each record; the file has none."
_WRITTEN_TIMES = (
    "Timestamp is taken as UTC, day before month; CICFlowMeter writes the local time of where it ran, and "
    "some files of 2017 the hours of the afternoon as 1 to 5, without saying so."
)
_NO_ADDRESSES = "The file has no addresses, so alerts name the sensor only."
_ORIGINATOR = (
    "The originator is the sender of the first packet that CICFlowMeter saw; a flow that it cut in two may "
    "go on from the other side."
)
_STATES = (
    "States follow from counts of flags, which do not say who sent them and are mostly 0 in 2017 and 2018."
)


def _notes(layout: Layout) -> tuple[str, ...]:
    return (
        _SYNTHETIC if layout is CIC_PLAIN else _WRITTEN_TIMES,
        *(() if layout is CIC_FLOWS else (_NO_ADDRESSES,)),
        _ORIGINATOR,
        "Bytes are those of the payload.",
        _STATES,
    )


CIC = Dataset(
    name="cic",
    record_type=CONN,
    layouts=(CIC_FLOWS, CIC_TIMED, CIC_PLAIN),
    convert=_conn,
    notes=_notes,
)
"""Bidirectional CICFlowMeter flows; label: the file's, `BENIGN` as `normal`."""
