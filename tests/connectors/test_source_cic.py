"""CICFlowMeter flows: both generations of names, times or none, states, and files that are not whole."""

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flow_files import CIC_FLOWS_NAMES, CIC_PLAIN_NAMES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import Reject, Source
from connectors.errors import SourceError
from connectors.source_cic import CicSource, recognises, recognises_columns

FLOW: dict[str, str] = {
    "Flow ID": "192.168.10.5-104.16.207.165-54865-443-6", "Src IP": "104.16.207.165", "Src Port": "443",
    "Dst IP": "192.168.10.5", "Dst Port": "54865", "Protocol": "6", "Timestamp": "14/02/2018 08:31:01",
    "Flow Duration": "1500000", "Tot Fwd Pkts": "3", "Tot Bwd Pkts": "2", "TotLen Fwd Pkts": "120",
    "TotLen Bwd Pkts": "80.0", "Flow Byts/s": "Infinity", "FIN Flag Cnt": "0", "SYN Flag Cnt": "1",
    "RST Flag Cnt": "0", "ACK Flag Cnt": "1", "Init Fwd Win Byts": "8192", "Label": "Benign",
}  # fmt: skip
assert ",".join(FLOW) == CIC_FLOWS_NAMES

IMPROVED = {
    "Tot Fwd Pkts": "Total Fwd Packet", "Tot Bwd Pkts": "Total Bwd packets",
    "TotLen Fwd Pkts": "Total Length of Fwd Packet", "TotLen Bwd Pkts": "Total Length of Bwd Packet",
    "FIN Flag Cnt": "FIN Flag Count", "SYN Flag Cnt": "SYN Flag Count", "RST Flag Cnt": "RST Flag Count",
    "ACK Flag Cnt": "ACK Flag Count", "Init Fwd Win Byts": "FWD Init Win Bytes",
}  # fmt: skip
OF_2017 = {
    "Src IP": " Source IP", "Src Port": " Source Port", "Dst IP": " Destination IP",
    "Dst Port": " Destination Port", "Protocol": " Protocol", "Timestamp": " Timestamp",
    "Tot Fwd Pkts": " Total Fwd Packets", "Tot Bwd Pkts": " Total Backward Packets",
    "TotLen Fwd Pkts": "Total Length of Fwd Packets", "TotLen Bwd Pkts": " Total Length of Bwd Packets",
    "FIN Flag Cnt": "FIN Flag Count", "SYN Flag Cnt": " SYN Flag Count", "RST Flag Cnt": " RST Flag Count",
    "ACK Flag Cnt": " ACK Flag Count", "Init Fwd Win Byts": "Init_Win_bytes_forward", "Label": " Label",
}  # fmt: skip


def read(source: Source, rows: int = 7) -> tuple[list[dict[str, Any]], list[Reject]]:
    chunks = list(source.chunks(rows=rows))
    table = pa.Table.from_batches([chunk.rows for chunk in chunks], source.record_type.schema)
    return table.to_pylist(), [reject for chunk in chunks for reject in chunk.rejects]


def source_of(
    path: Path, *rows: dict[str, str], without: tuple[str, ...] = (), names: dict[str, str] | None = None
) -> CicSource:
    kept = [name for name in FLOW if name not in without]
    lines = [",".join({**FLOW, **changes}[name] for name in kept) for changes in rows]
    header = ",".join((names or {}).get(name, name) for name in kept)
    path.write_text("\n".join([header, *lines]))
    return CicSource(path)


ADDRESSES = ("Flow ID", "Src IP", "Src Port", "Dst IP")
IDENTITY = (*ADDRESSES, "Protocol", "Timestamp")


def flow(path: Path, without: tuple[str, ...] = (), **changes: str) -> dict[str, Any]:
    """Return the flow that a file with one changed line gives; `_` stands for a blank in a name."""
    named = {name.replace("_", " "): cell for name, cell in changes.items()}
    return read(source_of(path, named, without=without))[0][0]


@pytest.mark.parametrize("names", [{}, IMPROVED, OF_2017], ids=["4", "improved", "2017"])
def test_every_generation_of_names_gives_the_same_flow(names: dict[str, str], tmp_path: Path) -> None:
    """The names of three releases stand for the same columns."""
    (row,) = read(source_of(tmp_path / "a", {}, names=names))[0]

    assert row["event_time"] == datetime(2018, 2, 14, 8, 31, 2, 500_000, tzinfo=UTC)
    assert [row["src_ip"].hex()[24:], row["dst_ip"].hex()[24:]] == ["6810cfa5", "c0a80a05"]
    assert [row["src_port"], row["dst_port"], row["protocol"]] == [443, 54865, "tcp"]
    assert [row["src_bytes"], row["dst_bytes"], row["src_packets"], row["dst_packets"]] == [120, 80, 3, 2]
    assert [row["duration"], row["label"], row["state"]] == [1.5, "normal", "established"]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("14/02/2018 08:31:01", (2018, 2, 14, 8, 31, 1)), ("3/7/2017 8:55", (2017, 7, 3, 8, 55)),
        ("12/03/2019 03:07:32 PM", (2019, 3, 12, 15, 7, 32)),
        ("2018-12-01 10:51:39.813448", (2018, 12, 1, 10, 51, 39, 813_448)),
    ],
)  # fmt: skip
def test_times_of_every_release_are_read(text: str, time: tuple[int, ...], tmp_path: Path) -> None:
    """Day before month, with or without seconds, twelve hours or twenty-four."""
    row = flow(tmp_path / "a", Timestamp=text, Flow_Duration="0")

    assert row["event_time"] == datetime(*(*time, 0, 0)[:7], tzinfo=UTC)


def test_files_for_learners_have_synthetic_times_and_say_so(tmp_path: Path) -> None:
    """Without addresses, protocol and times what is left is read, ten milliseconds apart."""
    source = source_of(tmp_path / "a", {}, {}, without=IDENTITY)
    rows = read(source)[0]

    assert [row["event_time"].microsecond for row in rows] == [0, 10_000]
    assert [rows[0][name] for name in ("src_ip", "src_port", "protocol", "dst_port")] == [None] * 3 + [54865]
    assert any("Event times are synthetic" in note for note in source.notes)


def test_a_file_with_times_and_no_addresses_keeps_its_times(tmp_path: Path) -> None:
    """As those of CSE-CIC-IDS2018."""
    source = source_of(tmp_path / "a", {}, without=ADDRESSES)
    (row,) = read(source)[0]

    assert [row["event_time"].year, row["protocol"], row["src_ip"]] == [2018, "tcp", None]
    assert any("no addresses" in note for note in source.notes)
    assert not any("synthetic" in note for note in source.notes)


def test_other_protocols_have_no_ports(tmp_path: Path) -> None:
    """CICFlowMeter calls them 0, which is no protocol, and writes 0 as their ports."""
    row = flow(tmp_path / "a", Protocol="0", Src_Port="0", Dst_Port="0")

    assert [row["protocol"], row["src_port"], row["dst_port"]] == [None] * 3
    assert flow(tmp_path / "b", IDENTITY, Dst_Port="0")["dst_port"] is None


STATES = [
    # protocol, fwd and bwd packets, fwd and bwd bytes, SYN, RST
    ("6", "3", "2", "120", "80", "1", "0", "established"), ("6", "3", "2", "120", "80", "0", "1", "reset"),
    ("6", "1", "1", "0", "0", "1", "1", "rejected"), ("6", "2", "0", "0", "0", "1", "0", "attempted"),
    ("6", "2", "0", "0", "0", "1", "1", "other"), ("6", "2", "0", "40", "0", "0", "0", "other"),
    ("17", "2", "0", "40", "0", "0", "0", "attempted"), ("17", "1", "1", "40", "90", "0", "0", "established"),
    ("0", "1", "0", "0", "0", "0", "0", "other"),
]  # fmt: skip


@pytest.mark.parametrize("case", STATES, ids=" ".join)
def test_states_follow_what_the_counts_allow(case: tuple[str, ...], tmp_path: Path) -> None:
    """Answers decide first, then the counts of SYN and RST."""
    names = ("Protocol", "Tot_Fwd_Pkts", "Tot_Bwd_Pkts", "TotLen_Fwd_Pkts", "TotLen_Bwd_Pkts")
    row = flow(tmp_path / "a", **dict(zip((*names, "SYN_Flag_Cnt", "RST_Flag_Cnt"), case[:-1], strict=True)))

    assert row["state"] == case[-1]
    assert (row["dst_bytes"] is None) == (row["dst_packets"] is None) == (case[2] == "0")


@pytest.mark.parametrize(("window", "state"), [("-1", "attempted"), ("8192", "other")])
def test_without_a_protocol_a_flow_without_a_window_is_no_tcp(
    window: str, state: str, tmp_path: Path
) -> None:
    """Then a lone request without a SYN is one of udp."""
    changes = {"Init_Fwd_Win_Byts": window, "Tot_Bwd_Pkts": "0", "SYN_Flag_Cnt": "0"}

    assert flow(tmp_path / "a", IDENTITY, **changes)["state"] == state


@pytest.mark.parametrize(
    ("label", "read_as"),
    [("BENIGN", "normal"), ("Benign", "normal"), ("DoS Hulk", "DoS Hulk"), ("", None), ("No Label", None),
     ("NeedManualLabel", None), (" Infilteration ", "Infilteration")],
)  # fmt: skip
def test_labels_have_one_spelling_of_normal(label: str, read_as: str | None, tmp_path: Path) -> None:
    """What CICFlowMeter writes where nobody has labelled is no label."""
    assert flow(tmp_path / "a", Label=label)["label"] == read_as


def test_the_dash_of_2017_is_read(tmp_path: Path) -> None:
    """Labels of web attacks hold a dash in the encoding of Windows; bytes that are none are rejected."""
    path = tmp_path / "a.csv"
    good = ",".join({**FLOW, "Label": "Web Attack - XSS"}.values()).encode()
    path.write_bytes(
        b"\n".join([CIC_FLOWS_NAMES.encode(), good.replace(b"- XSS", b"\x96 XSS"), good + b"\x81", good])
    )
    rows, (reject,) = read(CicSource(path))

    assert [row["label"] for row in rows] == ["Web Attack \u2013 XSS", "Web Attack - XSS"]
    assert (reject.reason, reject.raw) == ("not_utf8", good + b"\x81")


def test_a_repeated_header_and_blank_records_are_rejects(tmp_path: Path) -> None:
    """Public files hold both in their middle; the flows around them are kept."""
    path = tmp_path / "a.csv"
    good, empty = ",".join(FLOW.values()), "," * (len(FLOW) - 1)
    path.write_text(f"{CIC_FLOWS_NAMES}\n{good}\n{CIC_FLOWS_NAMES}\n{empty}\n{good}")
    rows, rejects = read(CicSource(path))

    assert [row["position"] for row in rows] == [0, 3]
    assert [reject.reason for reject in rejects] == ["unreadable_value", "null_value"]
    assert [reject.detail.partition(":")[0] for reject in rejects] == ["a.csv line 3", "a.csv line 4"]


@pytest.mark.parametrize("text", ["12345678", "12345678.0", "1.2345678E7"])
def test_counts_are_read_as_java_writes_them(text: str, tmp_path: Path) -> None:
    """Sums of lengths are floating-point numbers there."""
    assert flow(tmp_path / "a", TotLen_Fwd_Pkts=text)["src_bytes"] == 12_345_678


@pytest.mark.parametrize(
    ("name", "cell", "reason"),
    [
        ("Flow_Duration", "-1", "out_of_range"), ("Flow_Duration", "NaN", "not_finite"),
        ("Tot_Bwd_Pkts", "1.25E1", "unreadable_value"), ("Tot_Bwd_Pkts", "9E99", "unreadable_value"),
        ("Tot_Fwd_Pkts", "Infinity", "unreadable_value"), ("TotLen_Fwd_Pkts", "-5", "out_of_range"),
        ("Src_IP", "10.0.0.256", "unreadable_value"), ("Timestamp", "31/31/2018 08:31", "unreadable_value"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_a_reject(name: str, cell: str, reason: str, tmp_path: Path) -> None:
    """Negative durations, as CIC-IDS2017 holds some, are named; the next flow is kept."""
    rows, (reject,) = read(source_of(tmp_path / "a", {}, {name.replace("_", " "): cell}, {}))

    assert (reject.position, reject.reason, len(rows)) == (1, reason, 2)


def test_a_typed_table_is_read(tmp_path: Path) -> None:
    """Copies in Parquet hold numbers, and times as times."""
    rows = {name: pa.array([cell]) for name, cell in FLOW.items()}
    rows["Tot Fwd Pkts"] = pa.array([3.0])
    rows["Dst Port"] = pa.array([54865.0])
    rows["Timestamp"] = pa.array(
        [datetime(2018, 2, 14, 8, 31, 1, tzinfo=UTC)], pa.timestamp("ns", "Asia/Tokyo")
    )
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    source_of(tmp_path / "a.csv", {})
    typed, text = (read(CicSource(tmp_path / name))[0][0] for name in ("a.parquet", "a.csv"))

    assert {**typed, "flow_id": ""} == {**text, "flow_id": ""}


def test_only_cicflowmeter_is_recognised() -> None:
    """Every generation of names is; a table that merely has some of them is not."""
    assert recognises(CIC_PLAIN_NAMES.encode() + b"\r\n1,2")
    assert recognises(b"\xef\xbb\xbf" + CIC_FLOWS_NAMES.encode())
    assert not recognises(b"Flow Duration,Label\n")
    assert not recognises_columns(["Src IP", "Dst IP", "Dst Port", "Protocol", "Timestamp", "Label"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=50),
            st.lists(
                st.one_of(st.binary(max_size=5), st.sampled_from([b"Infinity", b"NaN", b"1E9", b"-1", b"6"])),
                min_size=19,
                max_size=19,
            ).map(b",".join),
        ),
        max_size=8,
    )
)
def test_any_bytes_are_flows_or_rejects(lines: list[bytes], tmp_path: Path) -> None:
    """Whatever stands between two good lines, they are read, and each other line is one or the other."""
    good = ",".join(FLOW.values()).encode()
    content = b"\n".join([good, *lines, good])
    path = tmp_path / "a"
    path.write_bytes(CIC_FLOWS_NAMES.encode() + b"\n" + content)
    expected = [part for part in content.split(b"\n") if part.strip()]
    rows, rejects = read(CicSource(path))
    positions = [*(row["position"] for row in rows), *(reject.position for reject in rejects)]

    assert sorted(positions) == list(range(len(expected)))
    assert {0, len(expected) - 1} <= {row["position"] for row in rows}


@pytest.mark.data
def test_the_public_sample_is_read_to_its_last_flow(data_dir: Path) -> None:
    """Rows, labels and sums are those that a plain reader of CSV counts."""
    path = data_dir / "flows" / "cic_ids2017_infiltration_sample.csv"
    with path.open(newline="") as file:
        plain = list(csv.DictReader(file))
    rows, rejects = read(CicSource(path))

    assert (len(rows), rejects) == (len(plain), [])
    assert Counter(row["label"] for row in rows) == {"normal": 85, "Infiltration": 36}
    assert sum(row["src_bytes"] for row in rows) == sum(
        float(row["Total Length of Fwd Packets"]) for row in plain
    )
    one_way = sum(row["Total Backward Packets"] == "0" for row in plain)
    assert sum(row["dst_packets"] is None for row in rows) == one_way


@pytest.mark.data
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_public_file_never_crashes(data: st.DataObject, data_dir: Path, tmp_path: Path) -> None:
    """Bytes that are overwritten or cut away spoil their lines only, or the file is refused."""
    whole = (data_dir / "flows" / "cic_ids2017_infiltration_sample.csv").read_bytes()
    content = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=30)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "a"
    path.write_bytes(content)
    try:
        rows, rejects = read(CicSource(path), rows=40)
    except SourceError:
        return
    n_lines = sum(bool(part.strip()) for part in bytes(content).split(b"\n")) - 1
    assert len(rows) + len(rejects) == n_lines
