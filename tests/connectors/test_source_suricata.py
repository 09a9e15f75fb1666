"""Suricata's eve.json: its flow events as flows, and what becomes of everything else in it."""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_files import event, suricata

from connectors.base import Reject, Source
from connectors.errors import SourceError
from connectors.source_suricata import SuricataSource, recognises

TIMES = {"start": "2024-01-02T03:04:05.250000+0200", "end": "2024-01-02T03:04:07.750001+0200"}


def read(source: Source) -> tuple[list[dict[str, Any]], list[Reject]]:
    chunks = list(source.chunks())
    rows = [row for c in chunks for row in c.rows.to_pylist()]
    return rows, [reject for c in chunks for reject in c.rejects]


def eve(path: Path, *events: dict[str, Any], spaced: bool = False) -> Source:
    separators = (", ", ": ") if spaced else (",", ":")
    path.write_text("".join(f"{json.dumps(e, separators=separators)}\n" for e in events))
    return SuricataSource(path)


def only(path: Path, **changes: Any) -> dict[str, Any]:
    ((row,), rejects) = read(eve(path, event(**changes)))
    assert rejects == []
    return row


@pytest.mark.parametrize("spaced", [False, True], ids=["as written", "spaced"])
def test_each_value_stands_under_its_column(tmp_path: Path, *, spaced: bool) -> None:
    """The side that opened the flow is the source; the flow ended at `end`; bytes are of whole packets."""
    ((row,), rejects) = read(eve(tmp_path / "eve.json", event(flow=TIMES), spaced=spaced))

    assert rejects == []
    assert row == {
        "sensor": "suricata", "flow_id": "1000000000000000-1704157445250000",
        "event_time": datetime(2024, 1, 2, 1, 4, 7, 750001, UTC),
        "src_ip": bytes(10) + b"\xff\xff\x0a\x00\x00\x01", "dst_ip": bytes(10) + b"\xff\xff\x0a\x00\x09\x09",
        "src_port": 40000, "dst_port": 443, "protocol": "tcp", "label": None, "position": 0,
        "duration": 2.500001, "src_bytes": 700, "dst_bytes": 9000, "src_packets": 6, "dst_packets": 7,
        "service": "ssl", "state": "established",
    }  # fmt: skip


def test_a_flow_without_an_end_lasted_until_it_was_told(tmp_path: Path) -> None:
    """A flow that goes on ends, for now, when its event was written."""
    row = only(
        tmp_path / "eve.json",
        timestamp="2024-01-02T03:00:09.000000Z",
        flow={"start": "2024-01-02T03:00:00.000000Z", "end": None},
    )

    assert row["event_time"] == datetime(2024, 1, 2, 3, 0, 9, tzinfo=UTC)
    assert row["duration"] == 9


@pytest.mark.parametrize(
    ("name", "service"),
    [("tls", "ssl"), ("krb5", "krb"), ("http", "http"), ("DNS", "dns"), ("failed", None), ("unknown", None),
     (None, None)],
)  # fmt: skip
def test_services_have_zeeks_names(name: str | None, service: str | None, tmp_path: Path) -> None:
    """One service has one name, whichever tool saw it; what was not recognised has none."""
    assert only(tmp_path / "eve.json", app_proto=name)["service"] == service


SILENT = {"pkts_toclient": 0, "bytes_toclient": 0}
STATES = [
    ("TCP", "1b", "1b", 7, "established"), ("TCP", "02", "00", 0, "attempted"),
    ("TCP", "02", "14", 1, "rejected"),
    ("TCP", "06", "12", 1, "reset"), ("TCP", "1e", "1b", 7, "reset"), ("TCP", "10", "10", 7, "other"),
    ("TCP", "14", "04", 1, "reset"), ("TCP", "zz", None, 7, "other"), ("UDP", None, None, 2, "established"),
    ("UDP", None, None, 0, "attempted"),
    ("", None, None, 0, "other"), ("SCTP", None, None, 0, "attempted"), ("GRE", None, None, 0, "other"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "ours", "theirs", "replies", "state"), STATES)
def test_states_follow_flags_and_answers(
    protocol: str, ours: str | None, theirs: str | None, replies: int, state: str, tmp_path: Path
) -> None:
    """What both sides sent decides."""
    flags = {"tcp_flags_ts": ours, "tcp_flags_tc": theirs} if ours else None
    row = only(tmp_path / "eve.json", proto=protocol, tcp=flags, flow={"pkts_toclient": replies})

    assert (row["protocol"], row["state"]) == (protocol.lower() or None, state)


@pytest.mark.parametrize(
    ("protocol", "kind", "replies", "state"),
    [("ICMP", 8, 1, "established"), ("ICMP", 8, 0, "attempted"), ("ICMP", 3, 0, "other"),
     ("IPv6-ICMP", 128, 0, "attempted"), ("IPv6-ICMP", 134, 0, "other")],
)  # fmt: skip
def test_icmp_has_no_ports(protocol: str, kind: int, replies: int, state: str, tmp_path: Path) -> None:
    """An unanswered echo request is an attempt, other messages ask for nothing."""
    source = "fe80::7" if protocol == "IPv6-ICMP" else "10.0.0.7"
    row = only(
        tmp_path / "eve.json", proto=protocol, icmp_type=kind, icmp_code=0, tcp=None, src_port=None,
        dest_port=None, src_ip=source, flow={"pkts_toclient": replies}, vlan=[100, 7],
    )  # fmt: skip

    assert (row["protocol"], row["state"]) == (protocol.lower(), state)
    assert row["src_port"] is row["dst_port"] is None


def test_one_way_flows_have_no_replies(tmp_path: Path) -> None:
    """What never came back is null, not zero."""
    row = only(tmp_path / "eve.json", flow=SILENT)

    assert row["dst_bytes"] is row["dst_packets"] is None


@pytest.mark.parametrize("spaced", [False, True], ids=["as written", "spaced"])
def test_other_events_are_passed_over(tmp_path: Path, *, spaced: bool) -> None:
    """They are neither rows nor rejects, whatever stands in them."""
    others = [
        {"timestamp": "now", "event_type": name, "flow": {"start": 7}, "src_ip": None}
        for name in ("alert", "dns", "netflow", "stats", "flow_v2")
    ]
    sneaky = {"timestamp": "x", "event_type": "http", "inner": {"event_type": "flow"}}
    rows, rejects = read(eve(tmp_path / "eve.json", *others, event(1), sneaky, event(2), spaced=spaced))

    assert [row["position"] for row in rows] == [5, 7]
    assert rejects == []


def test_numbers_as_text_and_nulls_are_read(tmp_path: Path) -> None:
    """Tools between Suricata and us write numbers as text, and null for what is missing."""
    path = tmp_path / "eve.json"
    whole = event(flow_id="77", src_port="123", flow={"pkts_toserver": "4"})
    path.write_text(json.dumps(whole | {"app_proto": None, "tcp": None, "icmp_type": None}))
    ((row,), rejects) = read(SuricataSource(path))

    assert rejects == []
    assert (row["src_port"], row["src_packets"], row["service"]) == (123, 4, None)


BAD = [
    ({"src_ip": "10.0.0"}, "unreadable_value"), ({"dest_port": 65536}, "unreadable_value"),
    ({"flow": {"pkts_toserver": -1}}, "out_of_range"), ({"flow": {"pkts_toserver": "x"}}, "unreadable_value"),
    ({"flow": {"start": "soon"}}, "unreadable_value"), ({"flow": {"start": None}}, "unreadable_value"),
    ({"flow_id": None}, "unreadable_value"), ({"flow_id": 2**64}, "unreadable_value"),
    ({"flow": {"start": "2024-01-02T03:00:00Z", "end": "2024-01-02T02:00:00Z"}}, "out_of_range"),
    ({"flow": {"end": "2199-01-02T02:00:00Z"}}, "absurd_time"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), BAD, ids=[str(changes) for changes, _ in BAD])
def test_a_bad_value_is_one_reject(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """It is given back as it stood there, with file and line; events around it are kept."""
    rows, (reject,) = read(eve(tmp_path / "eve.json", event(0), event(1, **changes), event(2)))

    assert [row["position"] for row in rows] == [0, 2]
    assert reject.reason == reason
    assert reject.detail.startswith("eve.json line 2: ")
    assert reject.raw == (tmp_path / "eve.json").read_bytes().splitlines()[1]


def test_broken_lines_are_rejects(tmp_path: Path) -> None:
    """Cut, misspelt, no text, NUL bytes, too long: each has its reason, and all others are kept."""
    rows, rejects = read(suricata(tmp_path, 60))

    assert [row["position"] for row in rows] == [
        i for i in range(1, 60, 2) if i not in (5, 11, 17, 23, 29, 31)
    ]
    assert [reject.reason for reject in rejects] == [
        "not_json", "unreadable_value", "not_utf8", "nul_byte", "line_too_long",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\0" * 999, b"[1, 2]\n" * 30, gzip.compress(b"{}", mtime=0)[:9]]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is no eve.json is refused with a sentence that names it."""
    (tmp_path / "eve.json").write_bytes(content)

    with pytest.raises(SourceError, match=r"eve\.json: "):
        read(SuricataSource(tmp_path / "eve.json"))


def plainly(path: Path) -> list[dict[str, Any]]:
    """Return the flow events of a file by json alone."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [event for event in events if event["event_type"] == "flow"]


@pytest.mark.data
def test_a_real_log_is_read_to_the_last_event(data_dir: Path) -> None:
    """Its 3,512 flow events among 5,000 lines are rows, with the values of a plain reading."""
    path = data_dir / "flows" / "suricata_eve.json"
    rows, rejects = read(SuricataSource(path))
    expected = plainly(path)

    assert rejects == []
    assert len(rows) == len(expected) == 3512
    for row, told in zip(rows, expected, strict=True):
        flow = told["flow"]
        assert row["src_packets"] == flow["pkts_toserver"]
        assert row["src_bytes"] == flow["bytes_toserver"]
        assert row["dst_packets"] == (flow["pkts_toclient"] or None)
        assert row["event_time"] == datetime.fromisoformat(flow.get("end", told["timestamp"]))
        assert row["protocol"] == told["proto"].lower()
    assert len({row["flow_id"] for row in rows}) == len(rows)


@pytest.mark.data
def test_real_states_agree_with_suricatas_own_word(data_dir: Path) -> None:
    """What Suricata saw established was, to the end or to a RST; a scan was refused."""
    path = data_dir / "flows" / "suricata_eve.json"
    pairs = Counter(
        (told["flow"]["state"], row["state"])
        for row, told in zip(read(SuricataSource(path))[0], plainly(path), strict=True)
        if told["proto"] == "TCP"
    )

    assert {ours for word, ours in pairs if word == "established"} == {"established", "reset"}
    assert pairs["closed", "rejected"] > 1000
    assert ("new", "rejected") not in pairs


@pytest.mark.data
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_log_is_read_or_refused(data: st.DataObject, data_dir: Path, tmp_path: Path) -> None:
    """Bytes cut out, put in or changed: never a crash, and what is far from the damage is kept."""
    content = bytearray((data_dir / "flows" / "suricata_eve.json").read_bytes()[:400_000])
    n_whole = content.count(b'"event_type":"flow"')
    for _ in range(3):
        at = data.draw(st.integers(40_000, len(content) - 1))
        noise = data.draw(st.sampled_from([b"", b"\0", b"\xff", b"\n", b'"', b"[" * 3000, b"9" * 400]))
        content[at : at + data.draw(st.integers(0, 40))] = noise
    (tmp_path / "eve.json").write_bytes(content)
    rows, rejects = read(SuricataSource(tmp_path / "eve.json"))

    assert len(rows) >= n_whole - 3 * 2 - 1
    assert len(rejects) <= 3 * 3 + 1


@pytest.mark.parametrize(
    ("head", "known"),
    [(json.dumps(event()).encode(), True), (b'{"event_type": "flow"}', False), (b"", False), (b"#", False)],
)
def test_it_is_recognised_by_its_beginning(head: bytes, known: bool) -> None:  # noqa: FBT001
    """Only what surely is an eve.json is one."""
    assert recognises(head) is known
