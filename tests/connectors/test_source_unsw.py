"""UNSW-NB15, in its own columns and as plain flows."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.base import Source
from connectors.errors import SourceError
from connectors.layouts import UNSW_PARTITION, UNSW_RAW
from connectors.records import IDENTITY, UNSW
from connectors.sources import open_source

# Invented. Columns that are not named are whole numbers of their own.
RAW: dict[str, str] = {
    **{name: str(100 + i) for i, name in enumerate(UNSW_RAW.columns)},
    "srcip": "10.1.0.7", "sport": "1390", "dstip": "10.2.0.9", "dsport": "80", "proto": "tcp",
    "state": "FIN", "service": "http", "attack_cat": "", "label": "0", "ltime": "1421927414",
}  # fmt: skip


def read(source: Source) -> list[dict[str, Any]]:
    table = pa.Table.from_batches([chunk.rows for chunk in source.chunks()], source.record_type.schema)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def raw(path: Path, dataset: str = "unsw-nb15", **changes: str) -> dict[str, Any]:
    """Return the record that a raw file with one changed line gives."""
    path.write_text(",".join({**RAW, **changes}.values()) + "\n")
    return read(open_source(dataset, path))[0]


def test_every_raw_column_stands_under_the_partitions_name(tmp_path: Path) -> None:
    """Features are found by place under the names that both forms share."""
    row = raw(tmp_path / "a.csv")
    features = {c.name for c in UNSW.columns} - set(IDENTITY) - {"proto", "state", "service"}

    assert {name: float(RAW[name]) for name in features} == {name: row[name] for name in features}
    assert row["event_time"] == datetime(2015, 1, 22, 11, 50, 14, tzinfo=UTC)
    assert row["src_ip"].hex() == "00000000000000000000ffff0a010007"
    assert (row["src_port"], row["dst_port"], row["protocol"]) == (1390, 80, "tcp")


@pytest.mark.parametrize(
    ("text", "port"), [("0xc0a8", 49320), ("-", None), ("", None), (" 53 ", 53), ("0", 0)]
)
def test_ports_are_read_in_every_spelling(text: str, port: int | None, tmp_path: Path) -> None:
    """Hex ports, dashes, blanks and stray spaces are what the raw files hold."""
    assert raw(tmp_path / "a.csv", dsport=text)["dst_port"] == port


def test_protocols_without_ports_have_none(tmp_path: Path) -> None:
    """What the exporter writes as the ports of ICMP is none."""
    row = raw(tmp_path / "a.csv", proto="icmp", sport="0x0303", dsport="0xc0a8")

    assert row["src_port"] is row["dst_port"] is None


@pytest.mark.parametrize("name", ["ct_flw_http_mthd", "is_ftp_login", "ct_ftp_cmd"])
@pytest.mark.parametrize("cell", ["", " "])
def test_blank_counts_are_null(name: str, cell: str, tmp_path: Path) -> None:
    """Columns that are blank in later raw files are null there, and the record stays."""
    assert raw(tmp_path / "a.csv", **{name: cell})[name] is None


@pytest.mark.parametrize(
    ("category", "attack", "label"),
    [
        ("", "0", "normal"), ("Normal", "0", "normal"), (" Fuzzers ", "1", "Fuzzers"), ("DoS", "1", "DoS"),
        ("Backdoors", "1", "Backdoor"), ("Backdoor", "1", "Backdoor"), ("", "1", "unnamed attack"),
    ],
)  # fmt: skip
def test_each_category_has_one_spelling(category: str, attack: str, label: str, tmp_path: Path) -> None:
    """Blanks and both spellings of a category come out as one; an attack is never called normal."""
    assert raw(tmp_path / "a.csv", attack_cat=category, label=attack)["label"] == label


@pytest.mark.parametrize(
    ("name", "cell", "reason"),
    [
        ("srcip", "10.1.0", "unreadable_value"), ("sport", "65536", "unreadable_value"),
        ("sport", "-5", "unreadable_value"), ("dur", "nan", "not_finite"), ("dur", "", "null_value"),
        ("spkts", "2.5", "unreadable_value"), ("spkts", "-2", "out_of_range"), ("state", " ", "empty_value"),
        ("ltime", "1421927414000", "absurd_time"), ("ltime", "9" * 18, "absurd_time"),
        ("ltime", "-1", "absurd_time"), ("ltime", "", "null_value"), ("sbytes", "9" * 30, "unreadable_value"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named(name: str, cell: str, reason: str, tmp_path: Path) -> None:
    """A record with a cell that cannot be is rejected, with the column in the detail."""
    lines = [",".join({**RAW, **changes}.values()) for changes in ({}, {name: cell})]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    (chunk,) = open_source("unsw-nb15", path).chunks()
    (reject,) = chunk.rejects

    assert (reject.position, reject.reason, reject.raw) == (1, reason, lines[1].encode())
    assert {"ltime": "event_time"}.get(name, name) in reject.detail
    assert chunk.rows.num_rows == 1


def test_counts_written_as_fractions_are_read(tmp_path: Path) -> None:
    """Copies that passed through other tools write 3.0 for 3."""
    assert raw(tmp_path / "a.csv", spkts="3.0", ct_ftp_cmd="1.0")["spkts"] == 3


STATES = [
    ("tcp", "FIN", "4", "0.1", "established"), ("udp", "CON", "2", "0", "established"),
    ("tcp", "ACC", "1", "0.1", "established"), ("udp", "INT", "3", "0", "established"),
    ("udp", "INT", "0", "0", "attempted"), ("tcp", "REQ", "0", "0", "attempted"),
    ("tcp", "RST", "2", "0.1", "reset"), ("tcp", "RST", "1", "0", "rejected"),
    ("ospf", "INT", "0", "0", "other"), ("arp", "INT", "0", "0", "other"),
    ("icmp", "ECO", "0", "0", "attempted"), ("icmp", "ECO", "1", "0", "established"),
    ("icmp", "URH", "0", "0", "other"), ("tcp", "FIN", "0", "0", "other"), ("tcp", "no", "0", "0", "other"),
]  # fmt: skip


@pytest.mark.parametrize("case", STATES, ids=" ".join)
def test_states_follow_what_was_seen(case: tuple[str, ...], tmp_path: Path) -> None:
    """Argus' word and the replies decide the state together."""
    protocol, word, replies, synack, state = case
    row = raw(tmp_path / "a.csv", "unsw-conn", proto=protocol, state=word, dpkts=replies, synack=synack)

    assert row["state"] == state


def test_one_way_flows_have_no_reply_columns(tmp_path: Path) -> None:
    """Bytes and packets that were never seen are null, not zero."""
    one_way = raw(tmp_path / "a.csv", "unsw-conn", dpkts="0", dbytes="0", service="-")
    both = raw(tmp_path / "b.csv", "unsw-conn", dpkts="3", dbytes="200")

    assert [one_way[name] for name in ("dst_packets", "dst_bytes", "service")] == [None] * 3
    assert [both[name] for name in ("dst_packets", "dst_bytes", "service")] == [3, 200, "http"]


def test_the_partition_has_no_flows(tmp_path: Path) -> None:
    """Plain flows need addresses, which the partition lacks: the error says which file has them."""
    path = tmp_path / "a.csv"
    path.write_text(",".join(UNSW_PARTITION.columns) + "\n")

    with pytest.raises(
        SourceError, match=r"no column srcip; .*raw file.*looks like a partition of UNSW-NB15"
    ):
        open_source("unsw-conn", path)


CLASSES = {
    "raw": {
        "normal": 18_428, "Fuzzers": 724, "Exploits": 510, "Reconnaissance": 182, "DoS": 68, "Generic": 59,
        "Shellcode": 23, "Worms": 4, "Backdoor": 2,
    },
    "partition": {
        "normal": 37_000, "Generic": 18_871, "Exploits": 11_132, "Fuzzers": 6_062, "DoS": 4_089,
        "Reconnaissance": 3_496, "Analysis": 677, "Backdoor": 583, "Shellcode": 378, "Worms": 44,
    },
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize(("part", "classes"), CLASSES.items(), ids=CLASSES)
def test_public_files_hold_the_published_counts(part: str, classes: dict[str, int], data_dir: Path) -> None:
    """Every record of the public files is good, and each category has its published size."""
    chunks = list(open_source("unsw-nb15", data_dir, part=part).chunks())

    assert Counter(label for chunk in chunks for label in chunk.rows["label"].to_pylist()) == classes
    assert not any(chunk.rejects for chunk in chunks)


@pytest.mark.data
def test_public_records_as_flows(data_dir: Path) -> None:
    """All 20,000 raw records are flows with addresses; only the one-way ones lack replies."""
    rows = [row for chunk in open_source("unsw-conn", data_dir).chunks() for row in chunk.rows.to_pylist()]

    assert Counter(row["state"] for row in rows) == {
        "established": 19_637, "other": 156, "attempted": 147, "reset": 60,
    }  # fmt: skip
    assert sum(row["dst_packets"] is None for row in rows) == 303
    assert all(row["src_ip"] and row["dst_ip"] for row in rows)
