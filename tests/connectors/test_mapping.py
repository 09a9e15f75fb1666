"""The mapping file: what it can say, and what it says back when it is wrong."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import SourceError
from connectors.json_flows import FlowReader
from connectors.mapping import PRESETS, FlowMapping, lint_mapping, load_mapping
from connectors.protocols import protocol_name
from connectors.records import CONN

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "flows-mapping.yaml"
NOON_S = 1_700_000_000

BASE: dict[str, Any] = {
    "columns": {
        "event_time": "end, s", "duration": "took, s", "src_bytes": "out", "dst_bytes": "in",
        "src_packets": "pout", "dst_packets": "pin", "protocol": "proto",
    },
}  # fmt: skip
RECORD = {"end": NOON_S, "took": 2, "out": 10, "in": 20, "pout": 1, "pin": 2, "proto": "tcp"}


def mapping(tmp_path: Path, **changes: Any) -> FlowMapping:
    """Return BASE with other columns, and other sections where a change is none of its columns."""
    path = tmp_path / "m.yaml"
    sections = {key: value for key, value in changes.items() if key in ("where", "sensor", "one_way")}
    columns = {k: v for k, v in {**BASE["columns"], **changes}.items() if k not in sections and v is not None}
    path.write_bytes(msgspec.yaml.encode({**sections, "columns": columns}))
    return load_mapping(path)


def read(mapped: FlowMapping, *records: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the flows that all of some records give."""
    flows = FlowReader(mapped, default_sensor="json").parse([msgspec.json.encode(r) for r in records])
    assert not flows.faults
    columns = {name: column.to_pylist() for name, column in flows.columns.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def one(mapped: FlowMapping, **changes: Any) -> dict[str, Any]:
    [row] = read(mapped, RECORD | changes)
    return row


def fault(mapped: FlowMapping, **changes: Any) -> tuple[str, str]:
    flows = FlowReader(mapped, default_sensor="json").parse([msgspec.json.encode(RECORD | changes)])
    assert list(flows.rows) == []
    return flows.faults[0]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("s", NOON_S, "2023-11-14T22:13:20+00:00"), ("s", NOON_S + 0.25, "2023-11-14T22:13:20.250000+00:00"),
        ("s", str(NOON_S), "2023-11-14T22:13:20+00:00"), ("s", "1700000000.5", "2023-11-14T22:13:20.5+00:00"),
        ("ms", NOON_S * 1000 + 1, "2023-11-14T22:13:20.001+00:00"),
        ("us", NOON_S * 10**6 + 1, "2023-11-14T22:13:20.000001+00:00"),
        ("ns", NOON_S * 10**9 + 1999, "2023-11-14T22:13:20.000001+00:00"),
        ("ns", str(NOON_S * 10**9 + 1999), "2023-11-14T22:13:20.000001+00:00"),
        ("iso8601", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20+00:00"),
        ("iso8601", "2023-11-14T22:13:20.123456789Z", "2023-11-14T22:13:20.123456+00:00"),
        ("iso8601", "2023-11-15T00:13:20.5+0200", "2023-11-14T22:13:20.5+00:00"),
        ("iso8601-utc", "2023-11-14 22:13:20", "2023-11-14T22:13:20+00:00"),
        ("iso8601-utc", "2023-11-15T00:13:20+02:00", "2023-11-14T22:13:20+00:00"),
    ],
)  # fmt: skip
def test_times_in_every_unit(unit: str, value: Any, expected: str, tmp_path: Path) -> None:
    """Epochs of four units as number or text, and ISO 8601 with its zone; to the microsecond, down."""
    row = one(mapping(tmp_path, event_time=f"end, {unit}"), end=value)

    assert at(expected) == row["event_time"]


@pytest.mark.parametrize(
    ("unit", "value"),
    [("iso8601", "2023-11-14T22:13:20"), ("iso8601", NOON_S), ("iso8601", "noon"), ("iso8601-utc", "noon"),
     ("s", "2023-11-14T22:13:20Z"), ("s", True), ("s", [1]), ("s", {"a": 1}),
     ("iso8601", "2023-02-30T00:00:00Z")],
)  # fmt: skip
def test_times_that_are_none(unit: str, value: Any, tmp_path: Path) -> None:
    """A text without a zone is no instant, a number no ISO text; the path and what was found are named."""
    reason, detail = fault(mapping(tmp_path, event_time=f"end, {unit}"), end=value)

    assert reason == "unreadable_value"
    assert detail.startswith("end is ")


@pytest.mark.parametrize(
    ("column", "unit", "value", "expected"),
    [
        ("duration", "s", 1.5, 1.5), ("duration", "ms", 1500, 1.5), ("duration", "us", "1500000", 1.5),
        ("duration", "ns", 1_500_000_000, 1.5), ("duration", "minutes", 0.5, 30.0),
        ("src_bytes", "bytes", 7, 7), ("src_bytes", "bytes", "7", 7), ("src_bytes", "bytes", 7.0, 7),
        ("src_bytes", "bits", 80, 10), ("src_bytes", "bits", 87, 10), ("src_bytes", "bits", -1, -1),
        ("src_bytes", "KiB", 1.5, 1536), ("src_bytes", "kB", 1.001, 1001), ("src_bytes", "MiB", 1, 2**20),
        ("src_packets", "packets", 3, 3), ("src_bytes", "bytes", 2**62, 2**62),
    ],
)  # fmt: skip
def test_quantities_in_every_unit(
    column: str, unit: str, value: Any, expected: float, tmp_path: Path
) -> None:
    """Whatever the unit of the source, ours are seconds, bytes and packets."""
    assert one(mapping(tmp_path, **{column: f"it, {unit}"}), it=value)[column] == expected


@pytest.mark.parametrize("value", [1.5, "many", True, [1], {}, 2**64, "9" * 40, 1e300])
def test_counts_that_are_none(value: Any, tmp_path: Path) -> None:
    """Fractions of a packet, words, truth values, lists and what 64 bits do not hold are faults."""
    assert fault(mapping(tmp_path), pout=value)[0] == "unreadable_value"


def test_when_and_how_long_follow_from_any_two(tmp_path: Path) -> None:
    """End and duration, start and duration, or start and end."""
    ways = [
        mapping(tmp_path),
        mapping(tmp_path, event_time=None, start_time="begin, s"),
        mapping(tmp_path, duration=None, start_time="begin, s"),
    ]
    rows = [one(way, begin=NOON_S - 2) for way in ways]

    assert {(row["event_time"], row["duration"]) for row in rows} == {(at("2023-11-14T22:13:20Z"), 2.0)}


@pytest.mark.parametrize(
    "record", [{"a": {"b": {"c": 5}}}, {"a.b.c": 5}, {"a": None, "a.b.c": 5}, {"a": {"b": {"c": "5"}}}]
)
def test_a_path_is_found_nested_or_as_one_key(record: dict[str, Any], tmp_path: Path) -> None:
    """As documents and as tools that flatten them write it."""
    assert one(mapping(tmp_path, src_bytes="a.b.c"), **record)["src_bytes"] == 5


def test_dots_inside_keys(tmp_path: Path) -> None:
    """Escaped, or in a list, a dot belongs to the key."""
    for path in (r"a\.b.c", ["a.b", "c"]):
        mapped = mapping(tmp_path, src_bytes={"path": path})
        assert one(mapped, **{"a.b": {"c": 5}})["src_bytes"] == 5


def test_what_is_missing_comes_from_elsewhere(tmp_path: Path) -> None:
    """From the next path, with its own unit, and at last the default; null and empty count as missing."""
    place = {"path": "a", "or": {"path": "b", "unit": "KiB", "default": 9}}
    mapped = mapping(tmp_path, src_bytes=place)
    rows = read(mapped, *(RECORD | more for more in ({"a": 1, "b": 1}, {"a": None, "b": 1}, {"a": ""}, {})))

    assert [row["src_bytes"] for row in rows] == [1, 1024, 9 * 1024, 9 * 1024]


def test_words_become_ours(tmp_path: Path) -> None:
    """In any case, numbers and truth values too; * for all others; unlisted words stay."""
    state = {"path": "s", "values": {"S0": "attempted", "1": "reset", "true": "rejected", "*": "other"}}
    mapped = mapping(tmp_path, state=state, label={"path": "l", "values": {"x": "scan"}})
    words = [("s0", "X"), (1, "benign"), (True, "Background"), ("?", "worm")]
    rows = read(mapped, *(RECORD | {"s": s, "l": label} for s, label in words))

    assert [row["state"] for row in rows] == ["attempted", "reset", "rejected", "other"]
    assert [row["label"] for row in rows] == ["scan", "normal", "normal", "worm"]


@pytest.mark.parametrize(
    ("word", "name"),
    [(6, "tcp"), ("17", "udp"), ("TCP", "tcp"), ("ICMPv6", "ipv6-icmp"), (58, "ipv6-icmp"), (253, "253"),
     ("sctp", "sctp"), (None, None)],
)  # fmt: skip
def test_protocols_have_one_name(word: Any, name: str | None, tmp_path: Path) -> None:
    """Numbers and every spelling."""
    assert one(mapping(tmp_path), proto=word)["protocol"] == name


def test_protocols_without_ports_have_none(tmp_path: Path) -> None:
    """What exporters write there for ICMP is its type and code."""
    mapped = mapping(tmp_path, src_port="sp", dst_port="dp")
    rows = read(mapped, *(RECORD | {"proto": p, "sp": 1, "dp": "2048"} for p in ("tcp", 1, None)))

    assert [(row["src_port"], row["dst_port"]) for row in rows] == [(1, 2048), (None, None), (1, 2048)]


@pytest.mark.parametrize("value", [-1, 65_536, "http", 1.5])
def test_ports_that_are_none(value: Any, tmp_path: Path) -> None:
    """A port is a whole number that 16 bits hold."""
    assert fault(mapping(tmp_path, src_port="sp"), sp=value)[0] == "unreadable_value"


@pytest.mark.parametrize(
    ("text", "packed"),
    [("10.0.0.1", "00000000000000000000ffff0a000001"), ("::1", "0" * 31 + "1"),
     ("::ffff:10.0.0.1", "00000000000000000000ffff0a000001"), ("", None), (None, None)],
)  # fmt: skip
def test_addresses_are_16_bytes(text: str | None, packed: str | None, tmp_path: Path) -> None:
    """IPv4 is mapped into IPv6."""
    address = one(mapping(tmp_path, src_ip="ip"), ip=text)["src_ip"]

    assert (address and address.hex()) == packed


SYN, ACK, RST, PSH, FIN = 2, 16, 4, 8, 1
TWO_WAY = [
    ("tcp", None, 1, 0, "attempted"), ("tcp", SYN, 3, 0, "attempted"), ("tcp", ACK, 3, 0, "other"),
    ("udp", None, 1, 0, "attempted"), ("icmp", None, 1, 0, "attempted"), ("ospf", None, 1, 0, "other"),
    ("tcp", None, 2, 2, "established"), ("udp", None, 1, 1, "established"),
    ("tcp", SYN | ACK | RST, 1, 1, "rejected"), ("tcp", SYN | ACK | RST, 2, 1, "reset"),
    ("tcp", SYN | ACK | PSH | RST, 5, 9, "reset"), ("tcp", SYN | ACK | PSH | FIN, 5, 9, "established"),
]  # fmt: skip
ONE_WAY = [
    ("tcp", SYN, "attempted"), ("tcp", SYN | RST, "attempted"), ("tcp", ACK | RST, "other"),
    ("tcp", SYN | ACK | RST, "reset"), ("tcp", ACK | PSH | FIN, "established"), ("tcp", None, "other"),
    ("tcp", 0, "other"), ("udp", None, "other"),
]  # fmt: skip


@pytest.mark.parametrize(("proto", "flags", "sent", "back", "state"), TWO_WAY)
def test_states_follow_from_what_came_back(
    proto: str, flags: int | None, sent: int, back: int, state: str, tmp_path: Path
) -> None:
    """And from TCP's flags, where records say none themselves."""
    mapped = mapping(tmp_path, tcp_flags="f")

    assert one(mapped, proto=proto, f=flags, pout=sent, pin=back)["state"] == state


@pytest.mark.parametrize(("proto", "flags", "state"), ONE_WAY)
def test_states_of_one_direction_follow_from_flags(
    proto: str, flags: int | None, state: str, tmp_path: Path
) -> None:
    """What the sender's own packets say, and no more; replies are null, not zero."""
    mapped = mapping(tmp_path, tcp_flags="f", dst_bytes=None, dst_packets=None, one_way=True)
    row = one(mapped, proto=proto, f=flags)

    assert (row["state"], row["dst_bytes"], row["dst_packets"]) == (state, None, None)


def test_flags_may_be_hexadecimal(tmp_path: Path) -> None:
    """As Suricata writes them."""
    mapped = mapping(tmp_path, tcp_flags="f, hex", dst_bytes=None, dst_packets=None, one_way=True)

    assert one(mapped, f="1b")["state"] == "established"
    assert fault(mapped, f="xyz")[0] == "unreadable_value"


def test_the_nearest_word_on_the_sensor_wins(tmp_path: Path) -> None:
    """Given by the caller, by the record, by the mapping, by the source's name."""
    record = msgspec.json.encode(RECORD | {"site": "roof"})
    bare = msgspec.json.encode(RECORD)

    def sensor(mapped: FlowMapping, text: bytes, given: str | None = None) -> Any:
        return (
            FlowReader(mapped, sensor=given, default_sensor="json").parse([text]).columns["sensor"][0].as_py()
        )

    both = mapping(tmp_path, sensor="hall")
    assert sensor(both, record) == "hall"
    mapped = load_mapping(Path(write(tmp_path, {**BASE, "sensor": "hall"}, sensor="site")))
    assert [sensor(mapped, record, "attic"), sensor(mapped, record), sensor(mapped, bare)] == [
        "attic", "roof", "hall"
    ]  # fmt: skip
    assert sensor(mapping(tmp_path), record) == "json"


def write(tmp_path: Path, document: dict[str, Any], **columns: Any) -> Path:
    path = tmp_path / "w.yaml"
    path.write_bytes(msgspec.yaml.encode({**document, "columns": {**document["columns"], **columns}}))
    return path


def test_only_what_is_asked_for_is_a_flow(tmp_path: Path) -> None:
    """Every path of `where` must hold one of its words."""
    mapped = mapping(tmp_path, where={"kind": ["flow", 1], "deep.done": True})
    kinds: list[dict[str, Any]] = [
        {"kind": "flow", "deep": {"done": True}}, {"kind": 1, "deep.done": True},
        {"kind": "flow"}, {"kind": "dns", "deep": {"done": True}}, {"kind": "flow", "deep": {"done": False}},
    ]  # fmt: skip

    assert len(read(mapped, *(RECORD | kind for kind in kinds))) == 2


MISTAKES: dict[str, dict[str, Any]] = {
    "columns.src_ipp: unknown column; did you mean src_ip?": {"src_ipp": "a"},
    "columns.duration.unit: sec is no unit of this column; say one of s, ms, us, ns, minutes": {
        "duration": "took, sec"
    },
    "columns.event_time.unit: missing; say one of s, ms, us, ns, iso8601, iso8601-utc": {"event_time": "end"},
    "columns.src_port.unit: s is given, expected none": {"src_port": "p, s"},
    "columns.src_ip.pth: unknown setting; did you mean path?": {"src_ip": {"pth": "a"}},
    "columns.src_ip: neither a path nor a default; give one": {"src_ip": {}},
    "columns.src_ip.path: 'a..b' is no path: a key is empty; write a.b.c, or a list of keys": {
        "src_ip": "a..b"
    },
    "columns.src_packets.default: is 'many', expected a whole number": {
        "src_packets": {"path": "p", "default": "many"}
    },
    "columns.state.values: wild is none of established, attempted, rejected, reset, other": {
        "state": {"path": "s", "values": {"x": "wild"}}
    },
    "columns.src_port.values: words can be given for sensor, flow_id, protocol, label, service, state only": {
        "src_port": {"path": "s", "values": {"x": "1"}}
    },
    "out.a: out is read as a value elsewhere; it cannot be both": {"label": "out.a"},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_told_with_its_path(message: str) -> None:
    """What is wrong, where, and what was expected."""
    assert lint_mapping({"columns": BASE["columns"] | MISTAKES[message]}) == [message]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Those of sections, of columns and of what is missing."""
    document = {
        "preset": "goflo2", "sensr": "x", "where": {"a..b": 1},
        "columns": {"event_time": "end", "src_bytes": "out", "dst_bytes": "in", "label": {"or": "a"}},
    }  # fmt: skip
    path = tmp_path / "m.yaml"
    path.write_bytes(msgspec.yaml.encode(document))
    found = lint_mapping(path)

    assert [text.partition(":")[0] for text in found] == [
        "preset", "sensr", "columns.event_time.unit", "columns.label", "where.a..b", "columns.duration",
        "columns.src_packets", "columns.dst_packets",
    ]  # fmt: skip
    with pytest.raises(SourceError, match=r"wrong mapping .*m\.yaml:\n  preset: unknown preset") as caught:
        load_mapping(path)
    assert str(caught.value).count("\n") == len(found)


def test_one_way_and_replies_exclude_each_other() -> None:
    """A mapping says which of both it is."""
    without = {k: v for k, v in BASE["columns"].items() if k not in ("dst_bytes", "dst_packets")}

    assert lint_mapping({"columns": without, "one_way": True}) == []
    assert len(lint_mapping({"columns": without})) == 2
    assert len(lint_mapping({**BASE, "one_way": True})) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: [", "is not valid YAML"), ("a: 1\na: 2\n", "'a' is given twice"),
        ("- a\n", "a list, expected"), ("columns: 3", "columns: 3 is"),
        ("", "a NoneType, expected the sections"), ("? [a]\n: 1\n", "is no name"),
        ("kafka: {bootstrap_servers: nowhere}", "no broker address"), ("\x00", "is not valid YAML"),
    ],
)  # fmt: skip
def test_files_that_are_no_mapping(text: str, message: str, tmp_path: Path) -> None:
    """Every one gets a sentence."""
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        load_mapping(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the names that need no file."""
    with pytest.raises(SourceError, match=r"nowhere\.yaml: .*or one of the names ecs, eve, goflow2"):
        load_mapping(tmp_path / "nowhere.yaml")


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["columns", "where", "path", "unit", "or", "src_ip", "x"]), inner),
    max_leaves=12,
))  # fmt: skip
def test_nothing_that_yaml_can_hold_breaks_the_check(document: Any) -> None:
    """Whatever stands in the file, the answer is a list of mistakes."""
    assert isinstance(lint_mapping(document), list)


def test_the_digest_names_what_a_mapping_does(tmp_path: Path) -> None:
    """Not how it is written: short and long form are one; another unit is another."""
    long = mapping(tmp_path, src_bytes={"path": ["out"], "unit": ""})

    assert mapping(tmp_path).digest == long.digest
    assert mapping(tmp_path).digest != mapping(tmp_path, src_bytes="out, bits").digest


def test_the_example_does_what_it_says() -> None:
    """The documented file reads the record that it describes."""
    record = {
        "type": "flow", "time": {"end": "2024-03-01T12:00:00Z", "took": 1500},
        "client": {"ip": "10.0.0.1", "port": 40_000, "sent": 2, "packets": 3}, "server.ip": "10.0.0.2",
        "server": {"port": 443, "packets": 4}, "ip_proto": 6, "app": {"guess": "TLS"}, "verdict": "open",
        "flags": "1b", "meta": {"flow.id": 77}, "truth": "benign",
    }  # fmt: skip
    [row] = read(load_mapping(EXAMPLE), record, {"type": "heartbeat"})

    assert row["src_ip"][-4:] + row["dst_ip"][-4:] == bytes([10, 0, 0, 1, 10, 0, 0, 2])
    assert {k: v for k, v in row.items() if k not in ("src_ip", "dst_ip")} == {
        "sensor": "office", "flow_id": "77", "event_time": at("2024-03-01T12:00:00Z"), "src_port": 40_000,
        "dst_port": 443, "protocol": "tcp", "label": "normal", "duration": 1.5, "src_bytes": 2048,
        "dst_bytes": 0, "src_packets": 3, "dst_packets": 4, "service": "tls", "state": "established",
    }  # fmt: skip


PRESET_RECORDS: dict[str, dict[str, Any]] = {
    "ecs": {
        "@timestamp": "2024-03-01T12:00:01Z", "event": {"action": "netflow_flow",
        "end": "2024-03-01T12:00:00.5Z", "duration": 500_000_000},
        "source": {"ip": "10.0.0.1", "port": 40_000, "bytes": 100, "packets": 2},
        "destination": {"ip": "10.0.0.2", "port": 443}, "network": {"transport": "tcp", "iana_number": 6},
        "netflow": {"tcp_control_bits": 27}, "observer": {"ip": "10.9.9.9"},
    },
    "packetbeat": {
        "event": {"action": "network_flow", "end": "2024-03-01T12:00:00.5Z", "duration": 500_000_000},
        "flow": {"final": True}, "source": {"ip": "10.0.0.1", "port": 40_000, "bytes": 100, "packets": 2},
        "destination": {"ip": "10.0.0.2", "port": 443, "bytes": 50, "packets": 1},
        "network": {"transport": "tcp"}, "host": {"name": "10.9.9.9"},
    },
    "goflow2": {
        "time_flow_start_ns": 1_709_294_400_000_000_000, "time_flow_end_ns": 1_709_294_400_500_000_000,
        "bytes": 100, "packets": 2, "src_addr": "10.0.0.1", "dst_addr": "10.0.0.2", "proto": "TCP",
        "src_port": 40_000, "dst_port": 443, "tcp_flags": 27, "sampler_address": "10.9.9.9",
    },
    "eve": {
        "event_type": "flow", "src_ip": "10.0.0.1", "dest_ip": "10.0.0.2", "src_port": 40_000,
        "dest_port": 443, "proto": "TCP", "host": "10.9.9.9", "flow": {"start": "2024-03-01T13:00:00.0+0100",
        "end": "2024-03-01T12:00:00.5Z", "pkts_toserver": 2, "pkts_toclient": 1, "bytes_toserver": 100,
        "bytes_toclient": 50}, "tcp": {"tcp_flags": "1b"},
    },
    "zeek": {
        "ts": 1_709_294_400.0, "duration": 0.5, "uid": "C1", "id.orig_h": "10.0.0.1", "id.orig_p": 40_000,
        "id.resp_h": "10.0.0.2", "id.resp_p": 443, "proto": "tcp", "conn_state": "SF", "orig_bytes": 100,
        "resp_bytes": 50, "orig_pkts": 2, "resp_pkts": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_presets_read_what_their_tools_write(name: str) -> None:
    """The same flow in each tool's words is the same flow in ours."""
    [row] = read(load_mapping(name), PRESET_RECORDS[name])
    shared = (
        "event_time",
        "duration",
        "src_port",
        "dst_port",
        "protocol",
        "src_bytes",
        "src_packets",
        "state",
    )

    assert [row[column] for column in shared] == [
        at("2024-03-01T12:00:00.5Z"), 0.5, 40_000, 443, "tcp", 100, 2, "established",
    ]  # fmt: skip
    assert row["sensor"] == ("json" if name == "zeek" else "10.9.9.9")
    assert row["dst_packets"] == (None if name in ("ecs", "goflow2") else 1)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["", "1", "1.5", "1e3", "-0", "0x1f", "2024-03-01T12:00:00Z", "10.0.0.1", "9" * 19, "nan"]
    )
)


@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys(("t", "d", "b", "p", "port", "ip", "w"), VALUES)), max_size=8
    )
)
def test_a_record_reads_the_same_alone_or_among_others(records: list[dict[str, Any]]) -> None:
    """Whatever kinds of values stand in the other records."""
    columns = {
        "event_time": "t, ns", "duration": "d, ms", "src_bytes": "b, kB", "dst_bytes": "b",
        "src_packets": "p", "dst_packets": "p", "src_port": "port", "src_ip": "ip", "label": "w",
        "service": "t", "start_time": "t, iso8601",
    }  # fmt: skip
    texts = [msgspec.json.encode(record) for record in records]
    reader = FlowReader(everything(columns), default_sensor="json")
    together = reader.parse(texts)
    alone = [reader.parse([text]) for text in texts]

    assert {i: flows.faults[0] for i, flows in enumerate(alone) if flows.faults} == together.faults
    for at_, row in enumerate(together.rows):
        for name, column in together.columns.items():
            assert column[at_].equals(alone[row].columns[name][0]), name


def everything(columns: dict[str, Any]) -> FlowMapping:
    from connectors.mapping import _checked

    found, wrong = _checked({"columns": columns})
    assert found is not None, wrong
    return found


def test_names_of_protocols_are_words_of_the_record_type() -> None:
    """Lower case, without blanks."""
    assert {protocol_name(str(number)) for number in range(256)} >= {"tcp", "udp", "icmp", "ipv6-icmp"}
    assert all(protocol_name(str(n)) == protocol_name(str(n)).lower().strip() for n in range(256))
    assert CONN.id == "conn@1"
