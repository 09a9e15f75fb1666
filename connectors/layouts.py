"""Layouts of the public datasets' files: which columns stand where, under which names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.errors import SourceError
from connectors.records import IDENTITY, KDD, UNSW


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of one kind of file, in order, under the names that its source reads."""

    dataset: str  # how the commands name it
    about: str  # how a message calls such a file
    columns: tuple[str, ...]
    required: frozenset[str]  # the columns without which a file with names is another one
    headerless: bool = True
    legacy: str = "utf-8"  # encoding of lines that are no UTF-8
    aliases: Mapping[str, str] = field(default_factory=dict)  # name in the file -> name here

    def canonical(self, name: str) -> str:
        """Return the name of a column here, whatever its case and blanks in the file."""
        plain = name.replace(" ", "").strip('"').lower()
        return self.aliases.get(plain, plain)

    def missing(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the required columns that are not among `names`, in order."""
        there = {self.canonical(name) for name in names}
        return tuple(name for name in self.columns if name in self.required and name not in there)


_KDD_FEATURES = tuple(c.name for c in KDD.columns if c.name not in IDENTITY)
_UNSW_FEATURES = tuple(c.name for c in UNSW.columns if c.name not in IDENTITY)

NSL_KDD = Layout(
    dataset="nsl-kdd",
    about="NSL-KDD (43 columns)",
    columns=(*_KDD_FEATURES, "label", "difficulty"),
    required=frozenset({*_KDD_FEATURES, "label", "difficulty"}),
)
KDD99 = Layout(
    dataset="kdd99",
    about="KDD Cup 1999 (42 columns)",
    columns=(*_KDD_FEATURES, "label"),
    required=frozenset({*_KDD_FEATURES, "label"}),
)

_UNSW_RAW_TEXT = """
    srcip sport dstip dsport proto state dur sbytes dbytes sttl dttl sloss dloss service sload dload spkts
    dpkts swin dwin stcpb dtcpb smean dmean trans_depth response_body_len sjit djit stime ltime sinpkt dinpkt
    tcprtt synack ackdat is_sm_ips_ports ct_state_ttl ct_flw_http_mthd is_ftp_login ct_ftp_cmd ct_srv_src
    ct_srv_dst ct_dst_ltm ct_src_ltm ct_src_dport_ltm ct_dst_sport_ltm ct_dst_src_ltm attack_cat label
"""
_UNSW_PARTITION_TEXT = """
    id dur proto service state spkts dpkts sbytes dbytes rate sttl dttl sload dload sloss dloss sinpkt dinpkt
    sjit djit swin stcpb dtcpb dwin tcprtt synack ackdat smean dmean trans_depth response_body_len ct_srv_src
    ct_state_ttl ct_dst_ltm ct_src_dport_ltm ct_dst_sport_ltm ct_dst_src_ltm is_ftp_login ct_ftp_cmd
    ct_flw_http_mthd ct_src_ltm ct_srv_dst is_sm_ips_ports attack_cat label
"""
_UNSW_RAW_COLUMNS = tuple(_UNSW_RAW_TEXT.split())
_UNSW_PARTITION_COLUMNS = tuple(_UNSW_PARTITION_TEXT.split())
_UNSW_ALIASES = {
    "smeansz": "smean",
    "dmeansz": "dmean",
    "res_bdy_len": "response_body_len",
    "sintpkt": "sinpkt",
    "dintpkt": "dinpkt",
}

UNSW_RAW = Layout(
    dataset="unsw-nb15",
    about="a raw file of UNSW-NB15 (49 columns)",
    columns=_UNSW_RAW_COLUMNS,
    required=frozenset(_UNSW_RAW_COLUMNS) - {"stime"},
    aliases=_UNSW_ALIASES,
)
UNSW_PARTITION = Layout(
    dataset="unsw-nb15",
    about="a partition of UNSW-NB15 (45 columns, with a header)",
    columns=_UNSW_PARTITION_COLUMNS,
    required=frozenset({*_UNSW_FEATURES, "attack_cat"}),
    headerless=False,
    aliases=_UNSW_ALIASES,
)

_ARGUS_TEXT = """
    starttime dur proto srcaddr sport dir dstaddr dport state stos dtos totpkts totbytes srcbytes srcpkts
    label
"""
_ARGUS_COLUMNS = tuple(_ARGUS_TEXT.split())
_ARGUS_TOTALS = frozenset(_ARGUS_COLUMNS) - {"stos", "dtos", "srcpkts", "label"}

ARGUS = Layout(
    dataset="argus",
    about="Argus flows (binetflow, with a header)",
    columns=_ARGUS_COLUMNS,
    required=_ARGUS_TOTALS | {"srcpkts"},
    headerless=False,
)
ARGUS_TOTALS = Layout(
    dataset="argus",
    about="Argus flows without SrcPkts (binetflow, with a header)",
    columns=_ARGUS_COLUMNS,
    required=_ARGUS_TOTALS,
    headerless=False,
)

# The names of 2017; those of later releases are aliases.
_CIC_TEXT = """
    flowid sourceip sourceport destinationip destinationport protocol timestamp flowduration totalfwdpackets
    totalbackwardpackets totallengthoffwdpackets totallengthofbwdpackets finflagcount synflagcount
    rstflagcount ackflagcount init_win_bytes_forward label
"""
_CIC_COLUMNS = tuple(_CIC_TEXT.split())
_CIC_ALIASES = {
    "srcip": "sourceip",
    "srcport": "sourceport",
    "dstip": "destinationip",
    "dstport": "destinationport",
    "totfwdpkts": "totalfwdpackets",
    "totalfwdpacket": "totalfwdpackets",
    "totbwdpkts": "totalbackwardpackets",
    "totalbwdpackets": "totalbackwardpackets",
    "totlenfwdpkts": "totallengthoffwdpackets",
    "totallengthoffwdpacket": "totallengthoffwdpackets",
    "totlenbwdpkts": "totallengthofbwdpackets",
    "totallengthofbwdpacket": "totallengthofbwdpackets",
    "finflagcnt": "finflagcount",
    "synflagcnt": "synflagcount",
    "rstflagcnt": "rstflagcount",
    "ackflagcnt": "ackflagcount",
    "initfwdwinbyts": "init_win_bytes_forward",
    "fwdinitwinbytes": "init_win_bytes_forward",
}
_CIC_FEATURES = frozenset(_CIC_COLUMNS[7:16]) | {"destinationport"}


def _cic(about: str, *more: str) -> Layout:
    return Layout(
        dataset="cic",
        about=f"CICFlowMeter flows {about}",
        columns=_CIC_COLUMNS,
        required=_CIC_FEATURES | {*more},
        headerless=False,
        legacy="cp1252",  # the dash in the labels of CIC-IDS2017's web attacks
        aliases=_CIC_ALIASES,
    )


CIC_FLOWS = _cic(
    "with addresses and times", "sourceip", "sourceport", "destinationip", "protocol", "timestamp"
)
CIC_TIMED = _cic("with times", "protocol", "timestamp")
CIC_PLAIN = _cic("without addresses and times")

LAYOUTS = (NSL_KDD, KDD99, UNSW_RAW, UNSW_PARTITION, ARGUS, ARGUS_TOTALS, CIC_FLOWS, CIC_TIMED, CIC_PLAIN)
"""Every known layout; one whose columns include another's comes first."""


def first_names(head: bytes) -> list[str]:
    """Return the cells of the first line that is not blank: the names, in a file that has them."""
    lines = (line for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip())
    return next(lines, b"").decode("utf-8", errors="replace").split(",")


def matching(names: Sequence[str], layouts: Sequence[Layout]) -> Layout | None:
    """Return the first layout whose required columns are all among `names`."""
    return next((layout for layout in layouts if not layout.missing(names)), None)


def looks_like(names: Sequence[str] | None, n_fields: int) -> str:
    """Say which known dataset has these columns, as the end of a sentence, or nothing."""
    if names is None:
        known = next((k for k in LAYOUTS if k.headerless and len(k.columns) == n_fields), None)
    else:
        known = matching(names, LAYOUTS)
    return f"; it looks like {known.about}: use dataset {known.dataset}" if known else ""


def wrong_names(where: str, names: Sequence[str], layouts: Sequence[Layout]) -> SourceError:
    """Return the error for a file whose column names fit none of `layouts`."""
    closest = min(layouts, key=lambda layout: len(layout.missing(names)))
    column = closest.missing(names)[0]
    index = closest.columns.index(column)
    found = (
        f"column {index + 1} there is {names[index][:60]}"
        if index < len(names)
        else "the file ends before it"
    )
    return SourceError(
        f"{where}: no column {column}; expected it as column {index + 1} of {closest.about}, "
        f"but {found}{looks_like(names, len(names))}"
    )


def wrong_count(where: str, n_fields: int, layouts: Sequence[Layout]) -> SourceError:
    """Return the error for a file without names whose number of columns fits none of `layouts`."""
    wanted = [layout for layout in layouts if layout.headerless]
    closest = min(wanted, key=lambda layout: abs(len(layout.columns) - n_fields))
    expected = len(closest.columns)
    if n_fields < expected:
        first = f"the first one missing is column {n_fields + 1} ({closest.columns[n_fields]})"
    else:
        first = f"the first one too many is column {expected + 1}"
    return SourceError(
        f"{where}: {n_fields} columns, expected {expected} of {closest.about}; "
        f"{first}{looks_like(None, n_fields)}"
    )
