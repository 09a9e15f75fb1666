"""What each column of a flow means, for every form in which exporters send it."""

import struct
from typing import Any

import pytest
from netflow_datagrams import (
    EXPORT_S,
    FLOW,
    UPTIME_MS,
    Fields,
    address,
    data,
    decoded,
    flow,
    ipfix,
    options,
    template,
    v5,
    v5_record,
    v9,
)

ADDRESSES: Fields = ((8, 4), (12, 4), (4, 1))
ENDS = address("10.0.0.7") + address("10.0.0.9") + b"\x06"
EXPORT_US = EXPORT_S * 1_000_000
EXPORT_MS = EXPORT_S * 1000
NTP_TO_1970_S = 2_208_988_800


def one(*datagrams: bytes) -> dict[str, Any]:
    (row,) = decoded(*datagrams).to_pylist()
    return {**row, "end_us": int(decoded(*datagrams)["event_time"][0].value)}


def given(fields: Fields, values: bytes, *, version: int = 10, counted: bool = True) -> dict[str, Any]:
    """Return the row of a TCP record with addresses, a byte counter and the fields in question."""
    counter: Fields = ((1, 4),) if counted else ()
    layout = [*ADDRESSES, *counter, *fields]
    record = ENDS + (struct.pack("!I", 500) if counted else b"") + values
    pack = v9 if version == 9 else ipfix
    return one(pack(template(256, layout, version=version), data(256, record)))


def test_a_template_record_fills_every_column() -> None:
    """Addresses, ports, protocol, counters and times of a plain one-way record."""
    row = one(v9(template(256, FLOW), data(256, flow())))

    assert (row["src_ip"].hex(), row["dst_ip"].hex()) == (
        "00000000000000000000ffff0a000007",
        "00000000000000000000ffff0a000009",
    )
    assert (row["src_port"], row["dst_port"], row["protocol"]) == (40_000, 443, "tcp")
    assert (row["src_bytes"], row["src_packets"], row["duration"]) == (900, 9, 10.0)
    assert row["dst_bytes"] is row["dst_packets"] is row["service"] is row["label"] is None
    assert row["end_us"] == EXPORT_US - 5_000_000
    assert (row["sensor"], row["state"]) == ("roof", "established")


def test_v5_says_the_same() -> None:
    """Cisco's fixed record has the same columns; its header has nanoseconds."""
    row = one(v5(v5_record(first=UPTIME_MS - 3000)))

    assert (row["src_port"], row["dst_port"], row["protocol"]) == (40_000, 443, "tcp")
    assert (row["src_bytes"], row["src_packets"], row["duration"]) == (900, 9, 3.0)
    assert row["end_us"] == EXPORT_US + 250_000


def test_ipv6_addresses_are_kept_whole() -> None:
    """IPv6 flows have their own two elements."""
    fields: Fields = ((27, 16), (28, 16), (1, 8))
    record = address("2001:db8::1") + address("2001:db8::2") + struct.pack("!Q", 5)
    row = one(ipfix(template(300, fields, version=10), data(300, record)))

    assert (row["src_ip"], row["dst_ip"]) == (address("2001:db8::1"), address("2001:db8::2"))
    assert (row["protocol"], row["src_port"]) == (None, None)


@pytest.mark.parametrize(
    ("v4", "v6", "src"),
    [
        ("10.0.0.7", "::", "::ffff:10.0.0.7"),
        ("0.0.0.0", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_of_both_families_the_one_in_use_counts(v4: str, v6: str, src: str) -> None:
    """Records with fields for both families hold zeros in one of them."""
    fields: Fields = ((8, 4), (12, 4), (27, 16), (28, 16), (1, 4))
    record = address(v4) + address(v4) + address(v6) + address(v6) + struct.pack("!I", 5)
    row = one(ipfix(template(300, fields, version=10), data(300, record)))

    assert row["src_ip"] == address(src)


@pytest.mark.parametrize(
    ("fields", "values", "ago_us", "duration"),
    [
        (((152, 8), (153, 8)), struct.pack("!QQ", EXPORT_MS - 7500, EXPORT_MS - 500), 500_000, 7.0),
        (((150, 4), (151, 4)), struct.pack("!II", EXPORT_S - 9, EXPORT_S - 2), 2_000_000, 7.0),
        (
            ((154, 8), (155, 8)),
            struct.pack("!IIII", *(EXPORT_S + NTP_TO_1970_S - 5, 0, EXPORT_S + NTP_TO_1970_S - 4, 1 << 31)),
            3_500_000,
            1.5,
        ),
        (((154, 8), (155, 8)), struct.pack("!QQ", EXPORT_US - 9, EXPORT_US - 3), 3, 6e-6),
        (((158, 4), (159, 4)), struct.pack("!II", 5_000_000, 1_000_000), 1_000_000, 4.0),
        (((152, 8), (161, 4)), struct.pack("!QI", EXPORT_MS - 7500, 7000), 500_000, 7.5 - 0.5),
        (((153, 8), (162, 4)), struct.pack("!QI", EXPORT_MS, 2_500_000), 0, 2.5),
        (((22, 4), (21, 4)), struct.pack("!II", 5000, 9000), 0, 4.0),
        (((22, 4), (21, 4), (160, 8)), struct.pack("!IIQ", 5000, 9000, EXPORT_MS - 9500), 500_000, 4.0),
        (((152, 8), (153, 8)), struct.pack("!QQ", 0, 0), 0, 0.0),
        (((152, 8), (323, 8)), struct.pack("!QQ", EXPORT_MS - 300, EXPORT_MS - 100), 100_000, 0.2),
        ((), b"", 0, 0.0),
    ],
    ids=[
        "milliseconds", "seconds", "NTP microseconds", "plain microseconds", "before the export",
        "start and duration", "end and duration", "uptime, start unknown", "uptime, start in the record",
        "zero is no time", "time of an event", "no time at all",
    ],
)  # fmt: skip
def test_every_form_of_time_is_read(fields: Fields, values: bytes, ago_us: int, duration: float) -> None:
    """Absolute, relative and missing times give the end of the flow and its duration."""
    row = given(fields, values)

    assert row["end_us"] == EXPORT_US - ago_us
    assert row["duration"] == pytest.approx(duration, abs=1e-9)


def test_uptimes_wrap_around() -> None:
    """A flow that began before 2^32 ms of uptime and ended after them has its right length."""
    record = flow(first=0xFFFFFFFF - 999, last=1000)
    row = one(v9(template(256, FLOW), data(256, record), uptime_ms=3000))

    assert (row["duration"], row["end_us"]) == (2.0, EXPORT_US - 2_000_000)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_numbers_have_any_length(size: int) -> None:
    """Reduced-size encoding: a counter of one byte and one of eight are read alike."""
    row = given(((2, size),), (200).to_bytes(size, "big"))

    assert row["src_packets"] == 200


def test_reverse_elements_are_the_reply() -> None:
    """RFC 5103: the elements of enterprise 29305 are those of the responder."""
    fields: Fields = ((2, 4), (1, 4, 29_305), (2, 4, 29_305), (6, 1), (6, 1, 29_305))
    row = given(fields, struct.pack("!IIIBB", 5, 4000, 4, 0x1B, 0x1B))

    assert (row["src_bytes"], row["src_packets"]) == (500, 5)
    assert (row["dst_bytes"], row["dst_packets"], row["state"]) == (4000, 4, "established")


def test_initiator_and_responder_are_the_two_sides() -> None:
    """What firewalls count each way becomes both columns; packets that they do not count are 0 and null."""
    row = given(((231, 4), (232, 4)), struct.pack("!II", 70, 80), version=9, counted=False)

    assert (row["src_bytes"], row["dst_bytes"]) == (70, 80)
    assert (row["src_packets"], row["dst_packets"]) == (0, None)


def test_counters_behind_the_exporter_are_no_reply() -> None:
    """Beside the usual counters, 23 and 24 are the same traffic again; alone, they are the counters."""
    fields: Fields = ((2, 4), (23, 4), (24, 4))
    beside = given(fields, struct.pack("!III", 5, 500, 5), version=9)
    alone = given(fields[1:], struct.pack("!II", 480, 4), version=9, counted=False)

    assert (beside["src_bytes"], beside["dst_bytes"], beside["dst_packets"]) == (500, None, None)
    assert (alone["src_bytes"], alone["src_packets"], alone["dst_bytes"]) == (480, 4, None)


ONE_WAY = [
    (6, 0x02, "attempted"), (6, 0xC2, "attempted"), (6, 0x06, "attempted"), (6, 0x10, "established"),
    (6, 0x12, "established"), (6, 0x1B, "established"), (6, 0x1F, "reset"), (6, 0x16, "reset"),
    (6, 0x04, "other"), (6, 0x14, "other"), (6, 0x00, "other"), (6, 0x01, "other"), (6, 0x29, "other"),
    (17, 0x00, "other"), (17, 0x02, "other"), (1, 0x00, "other"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "flags", "state"), ONE_WAY)
def test_one_way_states_follow_the_flags(protocol: int, flags: int, state: str) -> None:
    """A lone SYN is attempted; an answer that refuses is no failure of the one refusing."""
    assert one(v5(v5_record(flags, protocol)))["state"] == state


TWO_WAY = [
    (6, 0x1B, 0x1B, 4, "established"), (6, 0x02, 0x14, 1, "rejected"), (6, 0x1B, 0x1E, 4, "reset"),
    (6, 0x1E, 0x1A, 4, "reset"), (6, 0x02, 0x00, 0, "attempted"), (6, 0x10, 0x00, 0, "other"),
    (6, 0x00, 0x00, 0, "attempted"), (6, 0x16, 0x00, 1, "rejected"), (6, 0x1E, 0x00, 5, "reset"),
    (17, 0, 0, 0, "attempted"), (17, 0, 0, 1, "established"), (89, 0, 0, 0, "other"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "flags", "reverse", "replies", "state"), TWO_WAY)
def test_biflow_states_follow_the_answer(
    protocol: int, flags: int, reverse: int, replies: int, state: str
) -> None:
    """What came back decides; where nothing did, the reply columns are null."""
    fields: Fields = ((8, 4), (12, 4), (4, 1), (1, 4), (2, 4, 29_305), (6, 1), (6, 1, 29_305))
    record = ENDS[:8] + struct.pack("!BIIBB", protocol, 500, replies, flags, reverse)
    row = one(ipfix(template(256, fields, version=10), data(256, record)))

    assert (row["state"], row["dst_packets"]) == (state, replies or None)


@pytest.mark.parametrize(("kind", "state"), [(8, "attempted"), (0, "other"), (3, "other"), (13, "attempted")])
@pytest.mark.parametrize("element", [32, 176, 11])
def test_icmp_requests_without_an_answer_are_attempts(kind: int, state: str, element: int) -> None:
    """Type and code are one field, two, or stand in the port; ICMP has no ports."""
    value = bytes([kind]) if element == 176 else bytes([kind, 0])
    fields: Fields = ((8, 4), (12, 4), (4, 1), (1, 4), (2, 4, 29_305), (element, len(value)))
    row = one(
        ipfix(template(256, fields, version=10), data(256, ENDS[:8] + struct.pack("!BII", 1, 84, 0) + value))
    )

    assert (row["state"], row["protocol"], row["dst_port"]) == (state, "icmp", None)


def test_what_a_firewall_denied_is_rejected() -> None:
    """firewallEvent 3 decides over flags."""
    assert given(((233, 1), (6, 1)), b"\x03\x02", version=9)["state"] == "rejected"


def test_protocols_have_names_or_numbers() -> None:
    """Known protocols by name, the others as the text of their number."""
    names = [one(v5(v5_record(0, number)))["protocol"] for number in (1, 6, 17, 58, 132, 47, 253)]

    assert names == ["icmp", "tcp", "udp", "ipv6-icmp", "sctp", "gre", "253"]


def test_texts_of_variable_length_are_read() -> None:
    """An application's name, short or behind three bytes of length, becomes the service."""
    layout: Fields = [*ADDRESSES, (1, 4), (96, 65_535), (2, 4), (5, 65_535, 9)]
    octets, packets = struct.pack("!I", 500), struct.pack("!I", 3)
    short = ENDS + octets + b"\x04HTTP" + packets + b"\x02ab"
    long = ENDS + octets + b"\xff\x00\x03dns" + packets + b"\x00"
    rows = decoded(ipfix(template(256, layout, version=10), data(256, short, long, b"\0\0"))).to_pylist()

    assert [(row["service"], row["src_packets"]) for row in rows] == [("http", 3), ("dns", 3)]


def test_names_of_fixed_length_are_read() -> None:
    """A name in a field of fixed length is filled with zeros; an empty one is none."""
    rows = decoded(
        v9(
            template(256, [*ADDRESSES, (1, 4), (96, 8)]),
            data(256, *(ENDS + struct.pack("!I8s", 5, name) for name in (b"SSH", b""))),
        )
    ).to_pylist()

    assert [row["service"] for row in rows] == ["ssh", None]


SAMPLER: Fields = ((48, 1), (34, 4))


def test_a_sampling_interval_for_all_is_applied() -> None:
    """Bytes and packets are multiplied, and a lone SYN says nothing: later packets were not looked at."""
    told = v9(options(400, ((1, 4),), ((34, 4), (35, 1))), data(400, struct.pack("!IIB", 0, 100, 1)))
    row = one(told, v9(template(256, FLOW), data(256, flow(flags=2)), sequence=1))

    assert (row["src_bytes"], row["src_packets"], row["state"]) == (90_000, 900, "other")


def test_v5_states_its_interval_in_the_header() -> None:
    """Fourteen bits of interval, of which 0 and 1 both mean every packet."""
    rows = [one(v5(v5_record(), sampling=0x4000 | interval))["src_bytes"] for interval in (0, 1, 64)]

    assert rows == [900, 900, 57_600]


def test_an_interval_belongs_to_its_sampler() -> None:
    """Records that name a sampler get its interval; those that name none are left as they are."""
    told = v9(
        options(400, ((1, 4),), SAMPLER), data(400, *(struct.pack("!IBI", 0, i, 10 * i) for i in (1, 2)))
    )
    records = [ENDS + struct.pack("!IB", 7, sampler) for sampler in (1, 2, 3)]
    flows = v9(template(256, [*ADDRESSES, (1, 4), (48, 1)]), data(256, *records), sequence=1)
    plain = v9(template(257, FLOW), data(257, flow()), sequence=2)

    assert [row["src_bytes"] for row in decoded(told, flows, plain).to_pylist()] == [70, 140, 7, 900]


def test_an_interval_of_one_interface_is_not_applied() -> None:
    """What is said about a part of the exporter says nothing clear about a record."""
    told = v9(options(400, ((2, 4),), ((34, 4),)), data(400, struct.pack("!II", 3, 100)))
    row = one(told, v9(template(256, FLOW), data(256, flow()), sequence=1))

    assert row["src_bytes"] == 900


def test_sampled_one_in_space_is_read() -> None:
    """IPFIX: one packet looked at and 511 passed over are one in 512."""
    told = ipfix(
        options(400, ((149, 4),), ((305, 4), (306, 4)), version=10), data(400, struct.pack("!III", 7, 1, 511))
    )
    row = one(told, ipfix(template(256, FLOW, version=10), data(256, flow()), sequence=1))

    assert row["src_packets"] == 9 * 512
