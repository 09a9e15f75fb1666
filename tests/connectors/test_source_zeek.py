"""Zeek's conn.log: what its columns mean, in both forms, and what becomes of broken files."""

import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_files import FIELDS, START_S, conn, header, table_row, zeek_json, zeek_table

from connectors.base import Reject, Source
from connectors.errors import SourceError
from connectors.lines import LONGEST_LINE
from connectors.source_zeek import ZeekSource, recognises

Rows = list[dict[str, Any]]


def read(source: Source) -> tuple[Rows, list[Reject]]:
    chunks = list(source.chunks())
    return [row for c in chunks for row in c.rows.to_pylist()], [
        reject for c in chunks for reject in c.rejects
    ]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_json(path: Path, *records: dict[str, Any]) -> Source:
    return ZeekSource(written(path, "".join(f"{json.dumps(record)}\n" for record in records)))


def as_table(path: Path, *records: dict[str, Any]) -> Source:
    fields = (*FIELDS, "label") if any("label" in record for record in records) else FIELDS
    lines = [table_row({k: v for k, v in record.items() if v is not None}, fields) for record in records]
    return ZeekSource(written(path, header(fields) + "".join(f"{line}\n" for line in lines)))


both_forms = pytest.mark.parametrize("form", [as_json, as_table], ids=["json", "tsv"])


@both_forms
def test_each_field_stands_under_its_column(form: Any, tmp_path: Path) -> None:
    """The originator is the source; the flow ended a duration after its time stamp; bytes are payload."""
    ((row,), rejects) = read(form(tmp_path / "conn.log", conn(0, ts=START_S + 0.123456, duration=2.5)))

    assert rejects == []
    assert row == {
        "sensor": "zeek", "flow_id": "C0x",
        "event_time": datetime.fromtimestamp(START_S, UTC) + timedelta(seconds=2.623456),
        "src_ip": bytes(10) + b"\xff\xff\x0a\x00\x00\x01", "dst_ip": bytes(10) + b"\xff\xff\x0a\x00\x09\x09",
        "src_port": 40000, "dst_port": 80, "protocol": "tcp", "label": None,
        "position": 0 if form is as_json else 8,
        "duration": 2.5, "src_bytes": 100, "dst_bytes": 900, "src_packets": 4, "dst_packets": 5,
        "service": "http", "state": "established",
    }  # fmt: skip


UNANSWERED = {"resp_pkts": 0, "resp_bytes": 0, "resp_ip_bytes": 0}
STATES = [
    ("tcp", "S0", "attempted"), ("udp", "S0", "attempted"), ("tcp", "REJ", "rejected"),
    ("tcp", "SF", "established"), ("udp", "SF", "established"), ("tcp", "S1", "established"),
    ("tcp", "S2", "established"), ("tcp", "S3", "established"), ("tcp", "RSTO", "reset"),
    ("tcp", "RSTR", "reset"), ("tcp", "RSTOS0", "attempted"), ("tcp", "SH", "attempted"),
    ("tcp", "RSTRH", "other"), ("tcp", "SHR", "other"), ("tcp", "OTH", "other"), ("tcp", "NEW?", "other"),
]  # fmt: skip


@both_forms
@pytest.mark.parametrize(("protocol", "word", "state"), STATES)
def test_states_are_those_of_zeek(form: Any, protocol: str, word: str, state: str, tmp_path: Path) -> None:
    """Each of Zeek's states has one of ours; one that is not known is other."""
    ((row,), _) = read(form(tmp_path / "a.log", conn(proto=protocol, conn_state=word)))

    assert row["state"] == state


@both_forms
@pytest.mark.parametrize(
    ("source", "kind", "answered", "protocol", "state"),
    [
        ("10.0.0.1", 8, True, "icmp", "established"), ("10.0.0.1", 8, False, "icmp", "attempted"),
        ("10.0.0.1", 3, False, "icmp", "other"), ("fe80::1", 128, False, "ipv6-icmp", "attempted"),
        ("fe80::1", 128, True, "ipv6-icmp", "established"), ("fe80::1", 135, False, "ipv6-icmp", "other"),
    ],
)  # fmt: skip
def test_icmp_is_told_by_its_type_and_answer(
    form: Any, source: str, kind: int, *, answered: bool, protocol: str, state: str, tmp_path: Path
) -> None:
    """Zeek writes one name for both kinds of ICMP, and the type in place of a port: there are no ports."""
    record = conn(proto="icmp", id__orig_h=source, id__orig_p=kind, conn_state="OTH")
    ((row,), _) = read(form(tmp_path / "a.log", record | ({} if answered else UNANSWERED)))

    assert (row["protocol"], row["state"]) == (protocol, state)
    assert row["src_port"] is row["dst_port"] is None


@both_forms
def test_one_way_records_have_no_replies(form: Any, tmp_path: Path) -> None:
    """What never came back is null, not zero."""
    ((row,), _) = read(form(tmp_path / "a.log", conn(conn_state="S0", **UNANSWERED)))

    assert row["dst_bytes"] is row["dst_packets"] is None


@both_forms
def test_values_that_zeek_leaves_out_are_null_or_nothing(form: Any, tmp_path: Path) -> None:
    """Without service, duration and payload a record stands for a moment and for no bytes."""
    bare = dict.fromkeys(("service", "duration", "orig_bytes", "resp_bytes"))
    ((row,), rejects) = read(form(tmp_path / "a.log", conn() | bare))

    assert rejects == []
    assert [row[name] for name in ("service", "duration", "src_bytes", "dst_bytes")] == [None, 0.0, 0, 0]


@both_forms
def test_payload_never_exceeds_what_was_seen(form: Any, tmp_path: Path) -> None:
    """Zeek counts payload by TCP sequence numbers, which may lie; what it missed is allowed for."""
    lying = conn(orig_bytes=4_000_000_000, orig_ip_bytes=300, missed_bytes=50)
    ((row,), _) = read(form(tmp_path / "a.log", lying))

    assert row["src_bytes"] == 350


@both_forms
@pytest.mark.parametrize(
    ("text", "label"),
    [("Benign", "normal"), ("benign", "normal"), ("Background", "normal"), ("Malicious", "Malicious"),
     ("-", None)],
)  # fmt: skip
def test_labels_are_kept(form: Any, text: str, label: str | None, tmp_path: Path) -> None:
    """Labels that others have added come along, the harmless ones under one name."""
    ((row,), _) = read(form(tmp_path / "a.log", conn(label=text)))

    assert row["label"] == label


@both_forms
def test_the_first_of_several_services_counts(form: Any, tmp_path: Path) -> None:
    """Zeek lists every analyser that agreed."""
    rows, _ = read(form(tmp_path / "a.log", conn(service="SSL,http"), conn(service="(empty)")))

    assert rows[0]["service"] == "ssl"


@pytest.fixture
def in_tokyo() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "stamp",
    [
        START_S,
        float(START_S),
        START_S * 1000,
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20",
        "2023-11-14T23:13:20.000000+01:00",
    ],
)
def test_time_stamps_are_read_in_every_form(stamp: object, tmp_path: Path, in_tokyo: None) -> None:
    """Zeek's JSON has seconds, milliseconds or ISO 8601, as it is told; never the time of where we are."""
    ((row,), _) = read(as_json(tmp_path / "a.log", conn(ts=stamp, duration=0)))

    assert row["event_time"] == datetime.fromtimestamp(START_S, UTC)


@pytest.mark.parametrize("number", ["9" * 305, "-" + "9" * 305, "1e308", "inf", "nan"])
@pytest.mark.parametrize("name", ["ts", "duration"])
def test_times_beyond_all_numbers_are_rejects(name: str, number: str, tmp_path: Path) -> None:
    """A time that no float64 holds in microseconds costs its line, and no warning is printed."""
    lines = [table_row(conn()), table_row(conn(**{name: number})), table_row(conn())]

    rows, rejects = read(ZeekSource(written(tmp_path / "a.log", header() + "\n".join(lines))))

    assert (len(rows), len(rejects)) == (2, 1)
    assert rejects[0].reason in {"absurd_time", "not_finite", "out_of_range"}


def test_numbers_as_text_are_numbers(tmp_path: Path) -> None:
    """Tools between Zeek and us write counts as text."""
    ((row,), rejects) = read(
        as_json(tmp_path / "a.log", conn(orig_pkts="4", id__orig_p="40000", ts=f"{START_S}"))
    )

    assert rejects == []
    assert (row["src_packets"], row["src_port"]) == (4, 40000)


def test_empty_and_unset_cells_have_no_value(tmp_path: Path) -> None:
    """`-`, `(empty)` and what the header says instead."""
    lines = [
        table_row(conn(service="(empty)")),
        "#unset_field\tnil",
        table_row(conn(service="nil", duration="nil")),
    ]
    rows, rejects = read(ZeekSource(written(tmp_path / "a.log", header() + "\n".join(lines))))

    assert rejects == []
    assert [row["service"] for row in rows] == [None, None]
    assert rows[1]["duration"] == 0


def test_a_new_header_changes_the_columns(tmp_path: Path) -> None:
    """Joined logs, or Zeek restarted with another script: each line is read by the header above it."""
    turned = (*FIELDS[::-1], "label")
    content = (
        f"{header()}{table_row(conn(0))}\n#close\t2024-01-02-04-00-00\n"
        f"{header(turned, ';')}{table_row(conn(1, label='Malicious'), turned, ';')}\n"
        f"{header()}{table_row(conn(2))}\n#close\t2024-01-02-05-00-00\n"
    )
    rows, rejects = read(ZeekSource(written(tmp_path / "a.log", content)))

    assert rejects == []
    assert [row["flow_id"] for row in rows] == ["C0x", "C1x", "C2x"]
    assert [row["label"] for row in rows] == [None, "Malicious", None]
    assert [row["position"] for row in rows] == [8, 18, 27]


def test_an_indented_header_is_one(tmp_path: Path) -> None:
    """A tab before `#separator`, as tools leave it."""
    rows, _ = read(ZeekSource(written(tmp_path / "a.log", f"\t{header()}{table_row(conn())}\n")))

    assert [row["flow_id"] for row in rows] == ["C0x"]


def test_lines_without_a_header_are_rejected(tmp_path: Path) -> None:
    """A table of another log in the middle does not pass for connections."""
    other = header(("ts", "uid", "note"))
    content = f"{header()}{table_row(conn(0))}\n{other}1\tC7\thello\n{header()}{table_row(conn(1))}\n"
    rows, (reject,) = read(ZeekSource(written(tmp_path / "a.log", content)))

    assert [row["flow_id"] for row in rows] == ["C0x", "C1x"]
    assert (reject.reason, reject.raw) == ("no_header", b"1\tC7\thello")
    assert reject.detail.startswith("a.log line 18: no #fields line with id.orig_h")


BAD = [
    ({"ts": "soon"}, "null_value|unreadable_value"), ({"ts": 1e15}, "absurd_time"),
    ({"ts": -5}, "absurd_time"),
    ({"uid": ""}, "empty_value"), ({"id__orig_h": "10.0.0"}, "unreadable_value"),
    ({"id__resp_p": 65536}, "unreadable_value"), ({"orig_pkts": -1}, "out_of_range"),
    ({"orig_pkts": "many"}, "unreadable_value"), ({"duration": -1}, "out_of_range"),
    ({"resp_bytes": 2**70}, "unreadable_value"),
]  # fmt: skip


@both_forms
@pytest.mark.parametrize(("changes", "reason"), BAD, ids=[str(changes) for changes, _ in BAD])
def test_a_bad_value_is_one_reject(form: Any, changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """It is given back as it stood there, with file and line; records around it are kept."""
    source = form(tmp_path / "a.log", conn(0), conn(1, **changes), conn(2))
    rows, (reject,) = read(source)

    assert [row["flow_id"] for row in rows] == ["C0x", "C2x"]
    assert reject.reason in reason.split("|")
    assert reject.detail.startswith(f"a.log line {reject.position + 1}: ")
    assert reject.raw == (tmp_path / "a.log").read_bytes().splitlines()[reject.position]


@pytest.mark.parametrize("make", [zeek_json, zeek_table])
def test_broken_lines_are_rejects(make: Any, tmp_path: Path) -> None:
    """Cut, misspelt, no text, NUL bytes, too long: each has its reason, and all others are rows."""
    rows, rejects = read(make(tmp_path, 60))
    names = {int(row["flow_id"][1:-1]) for row in rows}
    reasons = [reject.reason for reject in rejects]

    assert names == set(range(60)) - {5, 11, 17, 23, 29, 31}
    assert reasons[1:] == ["unreadable_value", "not_utf8", "nul_byte", "line_too_long"]
    assert reasons[0] in ("not_json", "wrong_field_count")
    assert max(len(reject.raw) for reject in rejects) == LONGEST_LINE


def test_ten_megabytes_without_a_line_end_are_one_reject(tmp_path: Path) -> None:
    """Only the beginning of such a line is kept, in memory as in the reject."""
    lines = [json.dumps(conn(0)).encode(), b"x" * 10_000_000, json.dumps(conn(1)).encode()]
    rows, (reject,) = read(ZeekSource(written(tmp_path / "a.log", b"\n".join(lines))))

    assert len(rows) == 2
    assert (reject.reason, len(reject.raw)) == ("line_too_long", LONGEST_LINE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"), (b"   \n\n", "empty"), (b"hello\nworld\n", "expected Zeek's conn.log"),
        (bytes(range(256)) * 9, "expected Zeek's conn.log"),
        (b'{"a": 1}\n' * 30, "none of its first 20 records"),
        (header(("ts", "uid")).encode() + b"1\tC\n", "no #fields line"),
        (gzip.compress(header().encode() * 999, mtime=0)[:99], "cannot be read to its end"),
    ],
)  # fmt: skip
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    """A file that is no conn.log is refused with a sentence that says so."""
    with pytest.raises(SourceError, match=message):
        read(ZeekSource(written(tmp_path / "a.log", content)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """So is what to do."""
    with pytest.raises(SourceError, match=r"a\.log: no such file; give the path"):
        ZeekSource(tmp_path / "a.log")


@both_forms
def test_packed_renamed_or_grown_it_is_the_same_source(form: Any, tmp_path: Path) -> None:
    """The id depends on the lines up to the first record and on the sensor alone."""
    source = form(tmp_path / "a.log", conn(0), conn(1))
    content = (tmp_path / "a.log").read_bytes()
    zipped = ZeekSource(written(tmp_path / "b.gz", gzip.compress(content)))
    grown = form(tmp_path / "c.log", conn(0), conn(1), conn(2))
    other = form(tmp_path / "d.log", conn(1), conn(0))
    elsewhere = ZeekSource(tmp_path / "a.log", sensor="roof")

    assert source.source_id == zipped.source_id == grown.source_id
    assert read(source) == read(zipped)
    assert len({source.source_id, other.source_id, elsewhere.source_id}) == 3


FILES = {
    "zeek_conn_json_mixed.log": 576, "zeek_conn_json_portscan.log": 50,
    "zeek_conn_tsv_labeled_ctu_sme_11.log": 766, "zeek_conn_tsv_mixed.log": 141,
}  # fmt: skip


def plainly(path: Path) -> list[dict[str, str]]:
    """Read a log in another way: json and split alone."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if lines[0].startswith("{"):
        return [{key: str(value) for key, value in json.loads(line).items()} for line in lines]
    fields = next(line for line in lines if line.startswith("#fields")).split("\t")[1:]
    return [
        dict(zip(fields, line.split("\t"), strict=True))
        for line in lines
        if not line.lstrip().startswith("#")
    ]


@pytest.mark.data
@pytest.mark.parametrize(("name", "n"), FILES.items())
def test_real_logs_are_read_to_the_last_record(name: str, n: int, data_dir: Path) -> None:
    """Every record is a row, in order, as a plain reading of the file has them."""
    path = data_dir / "flows" / name
    rows, rejects = read(ZeekSource(path))
    expected = plainly(path)

    assert rejects == []
    assert len(rows) == len(expected) == n
    assert [row["flow_id"] for row in rows] == [record["uid"] for record in expected]
    assert [row["src_packets"] for row in rows] == [int(record["orig_pkts"]) for record in expected]
    assert Counter(row["protocol"].replace("ipv6-", "") for row in rows) == Counter(
        record["proto"] for record in expected
    )
    for row, record in zip(rows, expected, strict=True):
        duration = record.get("duration", "-")
        ended = float(record["ts"]) + (0 if duration == "-" else float(duration))
        assert abs(row["event_time"].timestamp() - ended) < 2e-6


@pytest.mark.data
def test_real_labels_and_states(data_dir: Path) -> None:
    """Labels are those of the file; a port scan is refused nearly everywhere."""
    labels = data_dir / "flows" / "zeek_conn_tsv_labeled_ctu_sme_11.log"
    labelled = read(ZeekSource(labels))[0]
    path = data_dir / "flows" / "zeek_conn_json_portscan.log"
    words = Counter(record["conn_state"] for record in plainly(path))
    states = Counter(row["state"] for row in read(ZeekSource(path))[0])

    names = {"Malicious": "Malicious", "Benign": "normal", "Background": "normal"}
    assert [row["label"] for row in labelled] == [names.get(record["label"]) for record in plainly(labels)]
    assert states["rejected"] == words["REJ"] > 25


@pytest.mark.data
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(FILES)))
def test_damaged_logs_are_read_or_refused(
    data: st.DataObject, name: str, data_dir: Path, tmp_path: Path
) -> None:
    """Bytes cut out, put in or changed: never a crash, and good lines far from the damage are kept."""
    content = bytearray((data_dir / "flows" / name).read_bytes())
    lines = content.count(b"\n")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(2000, len(content) - 1))
        noise = data.draw(
            st.sampled_from([b"", b"\0", b"\xff\xfe", b"\n", b"\r", b"\t" * 9, b"9" * 400, b'"', b"{" * 2000])
        )
        content[at : at + data.draw(st.integers(0, 40))] = noise
    rows, rejects = read(ZeekSource(written(tmp_path / "a.log", bytes(content))))

    assert len(rows) + len(rejects) >= lines - 8 - 3 * 3
    assert len(rejects) <= 3 * 3
    assert pa.array([reject.raw for reject in rejects], pa.binary()).null_count == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.binary(max_size=60), min_size=1, max_size=8), tsv=st.booleans())
def test_any_bytes_behind_a_good_record_are_rejected(noise: list[bytes], tsv: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Whatever follows, the good record before and the one behind are read."""
    good = [table_row(conn(i)) if tsv else json.dumps(conn(i)) for i in range(2)]
    junk = b"\n".join(b"?" + part.replace(b"\n", b" ") for part in noise)
    content = b"\n".join([(header() if tsv else "").encode() + good[0].encode(), junk, good[1].encode()])
    rows, rejects = read(ZeekSource(written(tmp_path / "a.log", content)))

    assert [row["flow_id"] for row in rows] == ["C0x", "C1x"]
    assert len(rejects) == len(noise)


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (header().encode(), True), (b"\t" + header().encode(), True), (json.dumps(conn()).encode(), True),
        (header(("ts", "uid", "query")).encode(), False), (b'{"uid": 1}\n', False), (b"", False),
    ],
)  # fmt: skip
def test_it_is_recognised_by_its_beginning(head: bytes, known: bool) -> None:  # noqa: FBT001
    """Only what surely is a conn.log is one."""
    assert recognises(head) is known
