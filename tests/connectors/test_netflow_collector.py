"""What a collector remembers: templates, sets that wait for one, sequences, restarts; and its limits."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netflow_datagrams import (
    EXPORT_S,
    FLOW,
    UPTIME_MS,
    address,
    data,
    flow,
    ipfix,
    options,
    reasons,
    rows,
    template,
    v5,
    v5_record,
    v9,
)

from connectors.netflow.assemble import assemble
from connectors.netflow.collector import Collector, Limits
from connectors.netflow.found import Found, FoundRecords

A, B = "10.0.0.1", "10.0.0.2"


def fed(collector: Collector, *datagrams: bytes, exporter: str = A, now_s: float = 0.0) -> list[Found]:
    return [found for one in datagrams for found in collector.feed(one, exporter, now_s=now_s)]


def test_data_before_its_template_waits_for_it() -> None:
    """A set without template is kept, and decoded with the times of its own datagram."""
    early = v9(data(256, flow(), flow()), export_s=EXPORT_S - 60, uptime_ms=UPTIME_MS)
    collector = Collector()

    assert fed(collector, early) == []
    late = rows(fed(collector, v9(template(256, FLOW), sequence=1)))
    known = rows(fed(Collector(), v9(template(256, FLOW)), early))
    assert [row["event_time"] for row in late] == [row["event_time"] for row in known]
    assert collector.gauges["held_sets"] == 0


def test_a_template_behind_its_data_in_one_datagram_is_found() -> None:
    """The order of the sets in a datagram does not matter."""
    assert len(rows(fed(Collector(), v9(data(256, flow()), template(256, FLOW))))) == 1


def test_a_template_is_of_its_exporter_version_and_domain() -> None:
    """The template of another exporter, domain or version does not decode a set."""
    collector = Collector()
    fed(collector, v9(template(256, FLOW)))
    others = [
        fed(collector, v9(data(256, flow())), exporter=B),
        fed(collector, v9(data(256, flow()), domain=8)),
        fed(collector, ipfix(data(256, flow()))),
    ]

    assert others == [[], [], []]
    assert collector.gauges["held_sets"] == 3


def test_sets_wait_only_so_long() -> None:
    """A set whose template does not come is rejected with its bytes, never lost."""
    collector = Collector(limits=Limits(held_s=60))
    fed(collector, v9(data(256, flow())), now_s=1000)

    assert list(collector.expire(1059)) == []
    (reject,) = assemble(list(collector.expire(1061)), 0).rejects
    assert (reject.reason, reject.raw) == ("no_template", flow())
    assert reject.detail.startswith("10.0.0.1 sequence 0: set 1 has")


@pytest.mark.parametrize("limits", [Limits(held_sets=2), Limits(held_bytes=2 * len(flow()))])
def test_waiting_sets_are_bounded(limits: Limits) -> None:
    """Beyond the limits the oldest are rejected, and the youngest are kept."""
    collector = Collector(limits=limits)
    found = fed(collector, *(v9(data(256, flow(sport=i)), sequence=i) for i in range(5)))

    assert reasons(found) == ["no_template"] * 3
    kept = rows(fed(collector, v9(template(256, FLOW), sequence=5)))
    assert [row["src_port"] for row in kept] == [3, 4]


def test_templates_are_bounded() -> None:
    """However many templates are sent, a bounded number of fields is kept: the last used ones."""
    collector = Collector(limits=Limits(template_fields=3 * len(FLOW)))
    fed(collector, *(v9(template(i, FLOW), sequence=i) for i in range(256, 356)))

    assert collector.gauges["templates"] == 3
    assert len(rows(fed(collector, v9(data(355, flow()))))) == 1
    assert fed(collector, v9(data(256, flow()))) == []


def test_streams_are_bounded() -> None:
    """Forged senders do not fill the memory."""
    collector = Collector(limits=Limits(streams=10))
    for i in range(100):
        fed(collector, v5(v5_record()), exporter=f"10.0.0.{i}")

    assert len(collector._streams) == 10


def test_equal_templates_are_decoded_together() -> None:
    """Two hundred exporters of one make cost no more than one: their records share a template."""
    collector = Collector()
    told = options(400, ((1, 4),), ((34, 4),)), data(400, struct.pack("!II", 0, 10))
    found = []
    for i in range(200):
        sent = v9(*told, template(256, FLOW), data(256, flow()))
        found += fed(collector, sent, exporter=f"10.0.0.{i}")

    assert len({id(one.template) for one in found if isinstance(one, FoundRecords)}) == 1
    assert len({one.intervals for one in found if isinstance(one, FoundRecords)}) == 1
    assert [row["sensor"] for row in rows(found)] == [f"10.0.0.{i}" for i in range(200)]
    assert {row["src_bytes"] for row in rows(found)} == {9000}


def test_a_template_sent_again_replaces_the_first() -> None:
    """The same number may come to mean other fields."""
    collector = Collector()
    fed(collector, v9(template(256, FLOW)))
    swapped = [FLOW[1], FLOW[0], *FLOW[2:]]
    (row,) = rows(fed(collector, v9(template(256, swapped), data(256, flow()), sequence=1)))

    assert row["src_ip"] == bytes(10) + b"\xff\xff" + address("10.0.0.9")


@pytest.mark.parametrize("number", [256, 2])
def test_ipfix_templates_are_taken_back(number: int) -> None:
    """A withdrawal of one, or of all, leaves data of it waiting."""
    collector = Collector()
    withdrawal = struct.pack("!HHHH", 2, 8, number, 0)
    fed(collector, ipfix(template(256, FLOW, version=10)), ipfix(withdrawal))

    assert fed(collector, ipfix(data(256, flow()))) == []
    assert collector.counts["withdrawals"] == 1
    assert collector.gauges == {"held_sets": 1, "templates": 0}


def test_each_version_counts_its_own_units() -> None:
    """A gap is flows for v5, datagrams for v9, data records (of options too) for IPFIX."""
    collector = Collector()
    fed(collector, v5(v5_record(), v5_record(), sequence=10), v5(v5_record(), sequence=17))
    fed(collector, v9(template(256, FLOW), sequence=10), v9(data(256, flow(), flow()), sequence=14))
    told = options(300, ((149, 4),), ((40, 4),), version=10), data(300, bytes(8))
    fed(collector, ipfix(template(256, FLOW, version=10), *told, data(256, flow(), flow()), sequence=10))
    fed(collector, ipfix(data(256, flow()), sequence=13), ipfix(data(256, flow()), sequence=16))

    assert collector.counts["gaps"] == 3
    assert collector.counts["lost_flows"] == 5
    assert collector.counts["lost_datagrams"] == 3
    assert collector.counts["lost_records"] == 2


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_nothing_lost_is_no_gap(start: int, sizes: list[int]) -> None:
    """Numbers that follow each other, also over 2^32, give neither gaps nor restarts."""
    collector = Collector()
    sequence = start
    for i, n in enumerate(sizes):
        fed(collector, v5(*[v5_record()] * n, sequence=sequence, export_s=EXPORT_S + 5 * i))
        sequence = (sequence + n) % 2**32

    assert not collector.counts["gaps"]
    assert not collector.counts["late_datagrams"]
    assert not collector.counts["restarts"]


def test_gaps_are_of_one_exporter_and_domain() -> None:
    """Sequences of others do not disturb."""
    collector = Collector()
    fed(collector, v9(sequence=5), v9(sequence=900, domain=8), v9(sequence=6), v9(sequence=901, domain=8))
    fed(collector, v9(sequence=70), exporter=B)

    assert collector.counts["gaps"] == 0


def test_a_datagram_that_was_overtaken_is_late() -> None:
    """It is decoded like any other, and is neither a gap nor a restart."""
    collector = Collector()
    fed(collector, v9(template(256, FLOW), sequence=5), v9(sequence=7))
    overtaken = fed(collector, v9(data(256, flow()), sequence=6))
    fed(collector, v9(sequence=9))

    assert len(rows(overtaken)) == 1
    assert (collector.counts["late_datagrams"], collector.counts["restarts"]) == (1, 0)
    assert (collector.counts["gaps"], collector.counts["lost_datagrams"]) == (2, 2)


def test_a_gap_over_the_end_of_the_numbers_is_counted() -> None:
    """After 2^32 - 1 comes 0."""
    collector = Collector()
    fed(collector, v9(sequence=2**32 - 2), v9(sequence=4))

    assert collector.counts["lost_datagrams"] == 5


def test_a_sequence_that_begins_again_is_followed() -> None:
    """Numbers that go back in a later second, without a restart, are the new ones: no gap, none late."""
    collector = Collector()
    fed(collector, v9(sequence=900), v9(sequence=3, uptime_ms=UPTIME_MS + 9000, export_s=EXPORT_S + 9))
    fed(collector, v9(sequence=4, uptime_ms=UPTIME_MS + 9000, export_s=EXPORT_S + 9))

    assert [collector.counts[name] for name in ("gaps", "late_datagrams", "restarts")] == [0, 0, 0]


def test_records_that_cannot_be_counted_are_no_gap() -> None:
    """How many a set without template holds is not known, so neither is the next number of IPFIX."""
    collector = Collector()
    fed(collector, ipfix(data(256, flow(), flow(), flow()), sequence=0), ipfix(sequence=3))

    assert collector.counts["gaps"] == 0


def test_a_v9_exporter_that_restarts_loses_its_templates() -> None:
    """Uptime behind what the time since makes of it is a restart: templates may mean other things now."""
    collector = Collector()
    fed(collector, v9(template(256, FLOW), sequence=900, uptime_ms=5_000_000))
    after = fed(collector, v9(data(256, flow()), sequence=0, uptime_ms=9000, export_s=EXPORT_S + 60))

    assert after == []
    assert (collector.counts["restarts"], collector.counts["gaps"]) == (1, 0)
    again = fed(collector, v9(template(256, FLOW), sequence=1, uptime_ms=9500, export_s=EXPORT_S + 61))
    assert len(rows(again)) == 1


def test_an_uptime_that_wraps_is_no_restart() -> None:
    """After 49.7 days the 32 bits of uptime begin again, and templates stay."""
    collector = Collector()
    fed(collector, v9(template(256, FLOW), uptime_ms=2**32 - 1000))
    after = fed(collector, v9(data(256, flow()), sequence=1, uptime_ms=4000, export_s=EXPORT_S + 5))

    assert len(rows(after)) == 1
    assert collector.counts["restarts"] == 0


def test_an_ipfix_exporter_that_restarts_begins_its_sequence_again() -> None:
    """IPFIX has no uptime: a number back near 0 in a later second is a restart."""
    collector = Collector()
    fed(collector, ipfix(template(256, FLOW, version=10), sequence=90_000))
    after = fed(collector, ipfix(data(256, flow()), sequence=0, export_s=EXPORT_S + 30))

    assert after == []
    assert collector.counts["restarts"] == 1


def test_an_exporter_that_counts_in_its_own_way_does_not_restart() -> None:
    """softflowd's numbers include the message they stand in: they grow, if by less than expected."""
    collector = Collector()
    fed(collector, ipfix(template(256, FLOW, version=10), data(256, flow(), flow()), sequence=2))
    after = fed(collector, ipfix(data(256, flow()), sequence=3, export_s=EXPORT_S + 30))

    assert len(rows(after)) == 1
    assert (collector.counts["restarts"], collector.counts["gaps"]) == (0, 0)


def test_what_is_no_flow_is_counted() -> None:
    """Records without addresses or without counters, and options, are no rows and no rejects."""
    collector = Collector()
    found = fed(
        collector,
        v9(
            template(256, ((10, 4), (1, 4))),
            data(256, bytes(8), bytes(8)),
            template(257, ((8, 4), (12, 4), (225, 4))),
            data(257, bytes(12)),
            options(300, ((1, 4),), ((96, 8),)),
            data(300, bytes(12), bytes(12), bytes(12)),
        ),
    )

    assert found == []
    assert (collector.counts["non_flow_records"], collector.counts["options_records"]) == (3, 3)


BROKEN = {
    "wrong_count": v5(v5_record(), count=2),
    "no_message": b"GET / HTTP/1.1\r\n\r\n",
    "trailing_bytes": v5(v5_record()) + b"\x00\x00\x01",
    "wrong_length": ipfix(data(256, flow()))[:-1],
    "broken_set": v9(template(256, FLOW), data(256, flow())[:-1]),
    "reserved_set": v9(data(17, flow())),
    "broken_template": v9(template(255, FLOW)),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_broken_is_rejected_with_its_reason(reason: str) -> None:
    """Bytes that cannot be read come out whole, with a sentence that says where."""
    chunk = assemble(fed(Collector(), BROKEN[reason]), 0)
    (reject,) = chunk.rejects

    assert reject.reason == reason
    assert reject.raw in BROKEN[reason]
    assert reject.detail.startswith(A)


@pytest.mark.parametrize(
    "fields", [(), ((8, 0),), ((1, 4),) * 1001], ids=["no field", "no bytes", "too many fields"]
)
def test_templates_that_cannot_be_are_rejected(fields: tuple[tuple[int, int], ...]) -> None:
    """A record of no bytes would never end; nothing else of the datagram is touched."""
    collector = Collector()
    found = fed(collector, v9(template(256, fields), template(257, FLOW), data(257, flow())))

    assert reasons(found) == ["broken_template"]
    assert len(rows(found)) == 1


def test_good_sets_before_a_broken_one_are_kept() -> None:
    """A length that lies hides only what follows it."""
    found = fed(Collector(), v9(template(256, FLOW), data(256, flow(), flow()), b"\x01\x00\xff\xff"))

    assert (len(rows(found)), reasons(found)) == (2, ["broken_set"])


def test_bytes_behind_the_last_record_are_rejected_unless_they_are_padding() -> None:
    """Three bytes may fill a set up to a word; zeros may fill anything."""
    known = template(256, FLOW)
    padded = [fed(Collector(), v9(known, data(256, flow(), end))) for end in (b"\0\0\1", bytes(12), b"12345")]

    assert [reasons(found) for found in padded] == [[], [], ["trailing_bytes"]]
    assert [len(rows(found)) for found in padded] == [1, 1, 1]


def test_a_record_that_cannot_be_is_rejected_alone() -> None:
    """A flow that ends before it begins takes its own record out, with its bytes; its neighbours stay."""
    bad = flow(first=UPTIME_MS - 10, last=UPTIME_MS - 20)
    chunk = assemble(fed(Collector(), v9(template(256, FLOW), data(256, flow(), bad, flow()))), 0)
    (reject,) = chunk.rejects

    assert (reject.position, reject.reason, reject.raw) == (1, "out_of_range", bad)
    assert reject.detail.startswith("10.0.0.1 sequence 0 set 2 record 2: conn@1: duration is")
    assert chunk.rows["position"].to_pylist() == [0, 2]


def test_counters_beyond_63_bits_are_rejected() -> None:
    """Neither a counter of 2^63 nor one multiplied beyond it becomes a number."""
    fields = ((8, 4), (12, 4), (1, 8), (34, 4))
    records = [bytes(8) + struct.pack("!QI", *pair) for pair in ((2**63, 1), (2**50, 2**31), (2**50, 8))]
    found = fed(Collector(), ipfix(template(256, fields, version=10), data(256, *records)))

    assert reasons(found) == ["out_of_range"] * 2
    assert [row["src_bytes"] for row in rows(found)] == [2**53]


def test_a_datagram_seen_twice_gives_the_same_ids() -> None:
    """Ids come from the exporter, the header, the place in the datagram and the record."""
    known, flows = v9(template(256, FLOW)), v9(data(256, flow(), flow()), sequence=1)
    first, second = (rows(fed(Collector(), known, flows)) for _ in range(2))
    later = rows(fed(Collector(), known, v9(data(256, flow(), flow()), sequence=2)))
    other = [*fed(collector := Collector(sensor=A), known, exporter=B), *fed(collector, flows, exporter=B)]
    ids = [{row["flow_id"] for row in some} for some in (first, second, later, rows(other))]

    assert ids[0] == ids[1]
    assert len(ids[0] | ids[2] | ids[3]) == 6


def test_equal_headers_do_not_make_equal_ids() -> None:
    """Some exporters leave their sequence at 0: the records themselves tell flows apart."""
    known = v9(template(256, FLOW))
    found = fed(Collector(), known, *(v9(data(256, flow(sport=i))) for i in range(3)))

    assert len({row["flow_id"] for row in rows(found)}) == 3


@pytest.mark.parametrize("missing", [1, 4, 40])
def test_a_record_of_variable_length_that_is_cut_is_rejected(missing: int) -> None:
    """A length that reaches beyond the set makes no record; those before it are kept."""
    fields = [*FLOW, (96, 65_535)]
    record = flow() + b"\x28" + b"n" * 40
    cut = data(256, record, record[:-missing])
    found = fed(Collector(), ipfix(template(256, fields, version=10), cut))

    assert (len(rows(found)), reasons(found)) == (1, ["trailing_bytes"])


def test_the_sensor_is_the_exporter_unless_it_has_a_name() -> None:
    """Flows of several exporters are told apart by their addresses."""
    named = fed(Collector(sensor="roof"), v5(v5_record()))
    found = [*fed(Collector(), v5(v5_record())), *fed(Collector(), v5(v5_record()), exporter=B)]

    assert [row["sensor"] for row in rows(found)] == [A, B]
    assert [row["sensor"] for row in rows(named)] == ["roof"]
