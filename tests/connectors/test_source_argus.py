"""Argus flows: what each column means, both directions, states, and files that are not whole."""

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from flow_files import ARGUS_NAMES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import Reject, Source
from connectors.errors import SourceError
from connectors.layouts import UNSW_PARTITION
from connectors.source_argus import ArgusSource, recognises, recognises_columns
from connectors.sources import open_source

ROW: dict[str, str] = {
    "StartTime": "2011/08/18 09:56:29.902471", "Dur": "1.5", "Proto": "tcp", "SrcAddr": "147.32.84.165",
    "Sport": "1037", "Dir": "   ->", "DstAddr": "74.125.232.195", "Dport": "80", "State": "FSPA_FSPA",
    "sTos": "0", "dTos": "0", "TotPkts": "9", "TotBytes": "1900", "SrcBytes": "700", "SrcPkts": "4",
    "Label": "flow=From-Botnet-V45-TCP-Established",
}  # fmt: skip
assert ",".join(ROW) == ARGUS_NAMES


def read(source: Source, rows: int = 7) -> tuple[list[dict[str, Any]], list[Reject]]:
    chunks = list(source.chunks(rows=rows))
    table = pa.Table.from_batches([chunk.rows for chunk in chunks], source.record_type.schema)
    return table.to_pylist(), [reject for chunk in chunks for reject in chunk.rejects]


def source_of(path: Path, *rows: dict[str, str], without: str = "") -> ArgusSource:
    names = [name for name in ROW if name != without]
    lines = [",".join({**ROW, **changes}[name] for name in names) for changes in rows]
    path.write_text("\n".join([",".join(names), *lines]))
    return ArgusSource(path)


def flow(path: Path, without: str = "", **changes: str) -> dict[str, Any]:
    """Return the flow that a file with one changed line gives."""
    return read(source_of(path, changes, without=without))[0][0]


def test_every_column_has_its_meaning(tmp_path: Path) -> None:
    """Sides, sizes and the time of the end are where conn@1 wants them."""
    row = flow(tmp_path / "a")

    assert row["event_time"] == datetime(2011, 8, 18, 9, 56, 31, 402471, tzinfo=UTC)
    assert [row["src_ip"].hex()[24:], row["dst_ip"].hex()[24:]] == ["932054a5", "4a7de8c3"]
    assert [row["src_port"], row["dst_port"], row["protocol"]] == [1037, 80, "tcp"]
    assert [row["src_bytes"], row["dst_bytes"], row["src_packets"], row["dst_packets"]] == [700, 1200, 4, 5]
    assert [row["duration"], row["service"], row["state"]] == [1.5, None, "established"]


@pytest.mark.parametrize(
    ("arrow", "swapped"),
    [
        ("   ->", False), ("  <->", False), ("  <?>", False), ("   ?>", False), ("  <- ", True),
        ("  <? ", True), ("  <| ", True), ("  who", False), ("", False),
    ],
)  # fmt: skip
def test_an_arrow_to_the_left_swaps_the_sides(arrow: str, swapped: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Whoever the arrow points away from is the source, with its port, bytes and packets."""
    row = flow(tmp_path / "a", Dir=arrow)
    seen = [row["src_port"], row["dst_port"], row["src_bytes"], row["src_packets"], row["dst_packets"]]

    assert seen == ([80, 1037, 1200, 5, 4] if swapped else [1037, 80, 700, 4, 5])


STATES = [
    ("tcp", "->", "FSPA_FSPA", "700", "established"), ("tcp", "->", "S_SA", "700", "established"),
    ("tcp", "->", "PA_PA", "700", "established"), ("tcp", "->", "S_", "1900", "attempted"),
    ("tcp", "->", "SR_", "1900", "attempted"), ("tcp", "->", "FPA_", "1900", "other"),
    ("tcp", "->", "S_RA", "700", "rejected"), ("tcp", "->", "S_R", "700", "rejected"),
    ("tcp", "->", "SR_SA", "700", "reset"), ("tcp", "->", "FSRPA_FSPA", "700", "reset"),
    ("tcp", "->", "R_A", "700", "reset"), ("tcp", "<-", "RA_S", "700", "rejected"),
    ("tcp", "<-", "_S", "0", "attempted"), ("tcp", "->", "_SA", "0", "other"),
    ("tcp", "->", "RST", "700", "reset"), ("tcp", "->", "FIN", "700", "established"),
    ("tcp", "->", "REQ", "1900", "attempted"), ("udp", "<->", "CON", "700", "established"),
    ("udp", "->", "INT", "1900", "attempted"), ("icmp", "->", "ECO", "1900", "attempted"),
    ("icmp", "<->", "ECO", "700", "established"), ("icmp", "->", "URP", "1900", "other"),
    ("igmp", "->", "INT", "1900", "other"), ("tcp", "->", "", "700", "other"),
]  # fmt: skip


@pytest.mark.parametrize("case", STATES, ids=" ".join)
def test_states_follow_flags_and_words(case: tuple[str, ...], tmp_path: Path) -> None:
    """The flags of the originator come first; words decide where there are no flags."""
    protocol, arrow, word, sent, state = case
    one_way = {"SrcPkts": "9" if sent == "1900" else "0"} if sent != "700" else {}
    row = flow(tmp_path / "a", Proto=protocol, Dir=arrow, State=word, SrcBytes=sent, **one_way)

    assert row["state"] == state


def test_one_way_flows_have_no_reply_columns(tmp_path: Path) -> None:
    """What was never seen is null, not zero."""
    row = flow(tmp_path / "a", SrcBytes="1900", SrcPkts="9", State="S_")

    assert [row["src_packets"], row["dst_bytes"], row["dst_packets"]] == [9, None, None]


def test_a_file_without_packets_by_side_says_that_they_are_estimates(tmp_path: Path) -> None:
    """Half of the packets each; all of them where only one side sent."""
    source = source_of(tmp_path / "a", {}, {"SrcBytes": "1900"}, {"TotPkts": "1"}, without="SrcPkts")
    rows = read(source)[0]

    assert [(row["src_packets"], row["dst_packets"]) for row in rows] == [(5, 4), (9, None), (1, 0)]
    assert any("estimates, half of TotPkts" in note for note in source.notes)
    assert not any("estimates" in note for note in source_of(tmp_path / "b", {}).notes)


@pytest.mark.parametrize(
    ("protocol", "port", "read_as"),
    [("tcp", "0x0050", 80), ("udp", "53", 53), ("icmp", "0x0303", None), ("esp", "0x0a1b2c3d", None),
     ("igmp", "", None), ("arp", "-", None), ("rtp", "5004", 5004), ("tcp", "", None)],
)  # fmt: skip
def test_only_what_has_ports_has_them(protocol: str, port: str, read_as: int | None, tmp_path: Path) -> None:
    """ICMP types, SPIs and blanks in the columns of ports are none."""
    row = flow(tmp_path / "a", Proto=protocol, Sport=port)

    assert row["src_port"] == read_as
    assert row["protocol"] == {"rtp": "udp"}.get(protocol, protocol)


@pytest.mark.parametrize(
    ("label", "read_as"),
    [
        ("flow=Background-UDP-Established", "normal"), ("flow=From-Normal-V45-Jist", "normal"),
        ("flow=To-Background-CVUT-Proxy", "normal"), ("Normal", "normal"), ("", None),
        ("flow=From-Botnet-V45-UDP-DNS", "flow=From-Botnet-V45-UDP-DNS"), ("Botnet", "Botnet"),
    ],
)  # fmt: skip
def test_labels_of_the_ctu_captures(label: str, read_as: str | None, tmp_path: Path) -> None:
    """Background and normal are normal, an empty label is none, a botnet keeps its name."""
    assert flow(tmp_path / "a", Label=label)["label"] == read_as


@pytest.mark.parametrize(
    "text", ["2011/08/18 09:56:29.902471", "2011-08-18T09:56:29.902471Z", "1313661389.902471"]
)
def test_times_are_read_in_every_spelling(text: str, tmp_path: Path) -> None:
    """Argus' own format, ISO 8601, and seconds since 1970."""
    assert flow(tmp_path / "a", StartTime=text, Dur="0")["event_time"].microsecond == 902471


@pytest.mark.parametrize(
    ("name", "cell", "reason"),
    [
        ("StartTime", "yesterday", "unreadable_value"), ("StartTime", "", "null_value"),
        ("Dur", "-1", "out_of_range"), ("Dur", "inf", "not_finite"), ("Dur", "", "null_value"),
        ("SrcAddr", "00:15:17:2c:e5:2d", "unreadable_value"), ("Sport", "http", "unreadable_value"),
        ("SrcBytes", "9999", "out_of_range"), ("TotPkts", "2.5", "unreadable_value"),
        ("SrcPkts", "10", "out_of_range"), ("StartTime", "2199/01/01 00:00:00", "absurd_time"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named_with_its_line(name: str, cell: str, reason: str, tmp_path: Path) -> None:
    """The reject says file and line, and holds the line; the flows around it are kept."""
    rows, (reject,) = read(source_of(tmp_path / "a", {}, {name: cell}, {}))

    assert [row["position"] for row in rows] == [0, 2]
    assert (reject.position, reject.reason) == (1, reason)
    assert reject.detail.startswith("a line 3: ")
    assert reject.raw == ",".join({**ROW, name: cell}.values()).encode()


def test_only_argus_is_recognised() -> None:
    """The names decide, in any order and case; other tables are not taken for it."""
    names = ARGUS_NAMES.split(",")

    assert recognises(ARGUS_NAMES.upper().encode() + b"\nx")
    assert recognises_columns(names[::-1])
    assert not recognises(b"2011/08/18,1.5,tcp")
    assert not recognises(b"")
    assert not recognises_columns([name for name in names if name != "Dir"])
    assert not recognises_columns(UNSW_PARTITION.columns)


def test_a_file_of_something_else_says_what_it_looks_like(tmp_path: Path) -> None:
    """The error names the missing column and whose file it is; the other way round as well."""
    path = tmp_path / "a.csv"
    path.write_text(",".join(UNSW_PARTITION.columns) + "\n")
    with pytest.raises(SourceError, match=r"no column starttime; .*looks like a partition of UNSW-NB15"):
        ArgusSource(path)

    path.write_text("1,2,3\n")
    with pytest.raises(SourceError, match="no column starttime; expected it as column 1 of Argus flows"):
        ArgusSource(path)

    source_of(path, {})
    with pytest.raises(SourceError, match=r"looks like Argus flows .*: use dataset argus"):
        open_source("nsl-kdd", path)


cells = st.one_of(st.binary(max_size=8), st.sampled_from([value.encode() for value in ROW.values()]))
line = st.one_of(
    st.binary(max_size=60),
    st.lists(cells, min_size=16, max_size=16).map(b",".join),
    st.lists(cells, min_size=14, max_size=18).map(b",".join),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(line, max_size=8))
def test_any_bytes_are_flows_or_rejects(lines: list[bytes], tmp_path: Path) -> None:
    """Whatever stands between two good lines, they are read, and each other line is one or the other."""
    good = ",".join(ROW.values()).encode()
    content = b"\n".join([good, *lines, good])
    path = tmp_path / "a"
    path.write_bytes(ARGUS_NAMES.encode() + b"\n" + content)
    expected = [part for part in content.split(b"\n") if part.strip()]
    rows, rejects = read(ArgusSource(path))
    positions = [*(row["position"] for row in rows), *(reject.position for reject in rejects)]

    assert sorted(positions) == list(range(len(expected)))
    assert {0, len(expected) - 1} <= {row["position"] for row in rows}
    assert all(expected[reject.position].strip() == reject.raw.strip() for reject in rejects)


def test_a_line_of_megabytes_is_one_reject(tmp_path: Path) -> None:
    """It is given up after its first part; the next line is read."""
    good = ",".join(ROW.values())
    path = tmp_path / "a"
    path.write_text("\n".join([ARGUS_NAMES, good, "7" * 10_000_000, good]))
    rows, (reject,) = read(ArgusSource(path))

    assert [row["position"] for row in rows] == [0, 2]
    assert (reject.reason, len(reject.raw) < 100_000) == ("line_too_long", True)


@pytest.mark.data
def test_the_public_file_is_read_to_its_last_flow(data_dir: Path) -> None:
    """Rows, protocols, sums and one-way flows are those that a plain reader of CSV counts."""
    path = data_dir / "flows" / "argus_ctu_botnet.binetflow.csv"
    with path.open(newline="") as file:
        plain = list(csv.DictReader(file))
    rows, rejects = read(ArgusSource(path), rows=1000)
    total = sum(row["src_bytes"] + (row["dst_bytes"] or 0) for row in rows)

    assert (len(rows), rejects, len(plain)) == (6751, [], 6751)
    assert Counter(row["protocol"] for row in rows) == Counter(row["Proto"] for row in plain)
    assert total == sum(int(row["TotBytes"]) for row in plain)
    assert sum(row["src_packets"] for row in rows) == sum(int(row["SrcPkts"]) for row in plain)
    one_way = sum(row["TotBytes"] == row["SrcBytes"] for row in plain)
    assert sum(row["dst_bytes"] is None for row in rows) == one_way
    states = Counter(row["state"] for row in rows)
    words = [row["State"] for row in plain]
    assert states["reset"] == sum("_" in word and "R" in word for word in words)
    assert states == {
        "established": 4055, "reset": 2606, "other": 66, "attempted": 24,
    }  # fmt: skip


@pytest.mark.data
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_public_file_never_crashes(data: st.DataObject, data_dir: Path, tmp_path: Path) -> None:
    """Bytes that are overwritten or cut away spoil their lines only, or the file is refused."""
    whole = (data_dir / "flows" / "argus_ctu_botnet.binetflow.csv").read_bytes()[:20_000]
    content = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=30)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "a"
    path.write_bytes(content)
    try:
        rows, rejects = read(ArgusSource(path), rows=40)
    except SourceError:
        return
    n_lines = sum(bool(part.strip()) for part in bytes(content).split(b"\n")) - 1
    assert len(rows) + len(rejects) == n_lines
