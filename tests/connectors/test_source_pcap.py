"""Captures as flows."""

from io import BytesIO
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from captures import (
    ACK,
    EPOCH_S,
    FIN,
    PSH,
    RST,
    SYN,
    Packet,
    Row,
    conversation,
    frames,
    icmp,
    ip,
    pcap,
    read_all,
    tcp,
    udp,
    write,
)

from connectors.capture_meter import Meter, Writer, _measure
from connectors.source_pcap import PcapSource

pytest.importorskip("_lib_engine", reason="captures need nfstream: pip install 'weir[pcap]'")

A, B = "10.1.0.7", "10.2.0.9"
PORTS = (40_000, 80)
BACK = PORTS[::-1]


def read(path: Path, packets: list[Packet], **limits: Any) -> list[Row]:
    """Return the flows of packets; nothing else may come of them."""
    rows, rejects = read_all(PcapSource(write(path / "a.pcap", packets), **limits))
    assert not rejects
    return rows


def text(address: bytes) -> str:
    ipv6 = IPv6Address(address)
    return str(ipv6.ipv4_mapped or ipv6)


def ends(row: Row) -> tuple[str, int | None, str, int | None]:
    return text(row["src_ip"]), row["src_port"], text(row["dst_ip"]), row["dst_port"]


def test_a_connection_is_one_flow(tmp_path: Path) -> None:
    """Every column of a hand-written connection: payload bytes, both sides' packets, end as event time."""
    (row,) = read(tmp_path, conversation(EPOCH_S, A, B, PORTS, b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100)))

    assert ends(row) == (A, 40_000, B, 80)
    assert (row["protocol"], row["service"], row["state"], row["label"]) == (
        "tcp",
        "http",
        "established",
        None,
    )
    assert (row["src_packets"], row["dst_packets"], row["src_bytes"], row["dst_bytes"]) == (4, 3, 35, 119)
    assert row["duration"] == pytest.approx(0.006)
    assert row["event_time"].timestamp() == pytest.approx(EPOCH_S + 0.006)
    assert row["sensor"] == "pcap"


S, SA, R, RA = (SYN, True), (SYN | ACK, False), (RST, True), (RST | ACK, False)
DATA, REPLY, END, BYE = (PSH | ACK, True), (PSH | ACK, False), (FIN | ACK, True), (FIN | ACK, False)
STATES = {
    "unanswered": ([S, S], "attempted"),
    "given up": ([S, R], "attempted"),
    "closed unheard": ([S, END], "attempted"),
    "refused": ([S, RA], "rejected"),
    "refused twice": ([S, RA, S, RA], "rejected"),
    "half open": ([S, SA], "established"),
    "half-open scan": ([S, SA, R], "reset"),
    "aborted by responder": ([S, SA, DATA, RA], "reset"),
    "reset behind both ends": ([S, SA, DATA, BYE, END, R], "established"),
    "open": ([S, SA, DATA, REPLY], "established"),
    "from its middle": ([DATA, REPLY], "established"),
    "reset from its middle": ([DATA, REPLY, R], "reset"),
    "one side of its middle": ([DATA, DATA], "other"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_connections(name: str, tmp_path: Path) -> None:
    """Flags and sides decide together what became of a connection."""
    steps, state = STATES[name]
    packets = frames(*(tcp(A, B, PORTS, f) if ours else tcp(B, A, BACK, f) for f, ours in steps))
    rows = read(tmp_path, packets)

    assert {row["state"] for row in rows} == {state}
    assert all(ends(row) == (A, 40_000, B, 80) for row in rows)
    assert sum(row["src_packets"] + (row["dst_packets"] or 0) for row in rows) == len(steps)


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize(
    ("ask", "answer", "protocol"),
    [
        (udp(A, B, (5000, 53), b"?"), udp(B, A, (53, 5000), b"!!"), "udp"),
        (icmp(A, B, 8, b"?"), icmp(B, A, 0, b"!!"), "icmp"),
        (icmp("fd00::1", "fd00::2", 128, b"?"), icmp("fd00::2", "fd00::1", 129, b"!!"), "ipv6-icmp"),
    ],
    ids=["udp", "icmp", "icmpv6"],
)
def test_questions(ask: bytes, answer: bytes, protocol: str, reply: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A question without an answer is an attempt, and its missing side is null, not zero."""
    (row,) = read(tmp_path, frames(ask, answer) if reply else frames(ask))

    assert (row["protocol"], row["src_packets"], row["src_bytes"]) == (protocol, 1, 1)
    assert (row["dst_packets"], row["dst_bytes"]) == ((1, 2) if reply else (None, None))
    assert row["state"] == ("established" if reply else "attempted")
    assert (row["src_port"] is None) == (protocol != "udp")


TURNED = {
    "syn/ack": (tcp(B, A, BACK, SYN | ACK), tcp(A, B, PORTS, ACK)),
    "server port": (tcp(B, A, BACK, PSH | ACK, b"x"), tcp(A, B, PORTS, ACK)),
    "dns answer": (udp(B, A, (53, 5000)), udp(A, B, (5000, 53))),
    "ping reply": (icmp(B, A, 0), icmp(A, B, 8)),
    "ping6 reply": (icmp("fd00::9", "fd00::7", 129), icmp("fd00::7", "fd00::9", 128)),
}


@pytest.mark.parametrize("name", TURNED)
def test_an_answer_seen_first_turns_the_flow(name: str, tmp_path: Path) -> None:
    """Where the question lies before the capture, its sender is still the source."""
    both, alone = (read(tmp_path, frames(*packets))[0] for packets in (TURNED[name], TURNED[name][:1]))

    assert text(both["src_ip"]) in {A, "fd00::7"}
    assert both["state"] == "established"
    assert (alone["src_packets"], alone["dst_packets"], alone["state"]) == (0, 1, "other")
    assert ends(alone) == ends(both)


@pytest.mark.parametrize(
    "packet",
    [
        tcp(A, B, (80, 40_000), SYN),
        udp(A, B, (53, 123)),
        udp(A, B, (6000, 7000)),
        tcp(A, B, (6000, 7000), ACK),
    ],
    ids=["syn", "servers", "datagram", "middle"],
)
def test_other_first_packets_come_from_the_source(packet: bytes, tmp_path: Path) -> None:
    """A SYN from port 80, servers among themselves and unknown ports are no answers."""
    (row,) = read(tmp_path, frames(packet))

    assert text(row["src_ip"]) == A


def test_protocols_without_ports(tmp_path: Path) -> None:
    """They have none, are named as IANA does or by number, and count what follows the IP header."""
    rows = read(
        tmp_path,
        [packet for i, n in enumerate((47, 50, 253)) for packet in frames(ip(A, B, n, bytes(30 + i)))],
    )

    assert [(row["protocol"], row["src_bytes"], row["src_port"], row["state"]) for row in rows] == [
        ("gre", 30, None, "other"), ("esp", 31, None, "other"), ("253", 32, None, "other"),
    ]  # fmt: skip


def test_sctp_has_ports(tmp_path: Path) -> None:
    """Ports that the engine leaves out are read, also behind IPv6, and keep associations apart."""
    ends_of = [(A, B), (A, B), ("fd00::1", "fd00::2")]
    contents = [ip(a, b, 132, bytes([0x13, 0x88 + i, 0, 80]) + bytes(12)) for i, (a, b) in enumerate(ends_of)]
    rows = read(tmp_path, frames(*contents))

    assert [(row["protocol"], row["src_port"], row["dst_port"]) for row in rows] == [
        ("sctp", 5000, 80), ("sctp", 5001, 80), ("sctp", 5002, 80),
    ]  # fmt: skip
    assert {row["state"] for row in rows} == {"attempted"}


def test_services_come_from_payload_alone(tmp_path: Path) -> None:
    """A port alone names no service; what is read there does, on any port."""
    request = b"GET / HTTP/1.1\r\nHost: weir.test\r\n\r\n"
    silent = frames(tcp(A, B, (1, 443), SYN), tcp(B, A, (443, 1), SYN | ACK))
    odd = conversation(EPOCH_S + 1, A, B, (40_001, 4711), b"HTTP/1.1 200 OK\r\n\r\n")
    rows = read(tmp_path, [*silent, *odd])

    assert request in odd[3][1]
    assert [row["service"] for row in rows] == [None, "http"]


def test_silence_ends_a_flow(tmp_path: Path) -> None:
    """After the idle timeout the same addresses and ports are another flow, and not a moment sooner."""
    ask = udp(A, B, (5000, 6000), b"?")

    assert len(read(tmp_path, frames(ask, ask, step_s=119.999))) == 1
    assert len(read(tmp_path, frames(ask, ask, step_s=120))) == 2
    assert len(read(tmp_path, frames(ask, ask, step_s=119), idle_s=60)) == 2


def test_a_long_flow_comes_in_pieces_of_one_direction(tmp_path: Path) -> None:
    """The active timeout cuts; the rest keeps source and destination, whoever speaks first in it."""
    a, b = udp(A, B, (5000, 6000), b"a"), udp(B, A, (6000, 5000), b"bb")
    rows = read(tmp_path, frames(a, b, b, b, a, step_s=50), active_s=100)

    assert [(text(row["src_ip"]), row["src_bytes"], row["dst_bytes"]) for row in rows] == [
        (A, 1, 2), (A, 0, 4), (A, 1, None),
    ]  # fmt: skip


def test_a_syn_behind_the_end_is_another_connection(tmp_path: Path) -> None:
    """A client that takes the same port again gets a flow of its own."""
    twice = [packet for i in range(2) for packet in conversation(EPOCH_S + i, A, B, PORTS, b"x")]
    rows = read(tmp_path, twice)

    assert [(row["src_packets"], row["state"]) for row in rows] == [(4, "established")] * 2


def test_flows_come_in_the_order_of_their_end(tmp_path: Path) -> None:
    """Long flows hold up no short ones and overtake none."""
    long = [(EPOCH_S + 100.0 * i, udp(A, B, (5000, 6000))) for i in range(30)]
    short = [(EPOCH_S + 7.0 * i + 1, udp(A, B, (1000 + i, 7000))) for i in range(400)]
    rows = read(tmp_path, sorted(long + short), active_s=500)
    times = [row["event_time"] for row in rows]

    assert len(rows) == 6 + 400
    assert times == sorted(times)


def test_one_wrong_clock_moves_no_other_flow(tmp_path: Path) -> None:
    """A packet of another year, or captures joined out of order, leave other times and flows as they are."""
    decade_s = 3.15e8
    a, b, c, d = (udp(A, B, (5000 + i, 6000)) for i in range(4))
    starts_s = [EPOCH_S, EPOCH_S + decade_s, EPOCH_S + 1.0, EPOCH_S - decade_s, EPOCH_S + 9.0]
    packets = [
        (start_s + i, frame) for start_s, frame in zip(starts_s, (a, b, a, c, d), strict=True) for i in (0, 1)
    ]
    rows = read(tmp_path, packets)

    assert [row["event_time"].timestamp() - 1 for row in rows] == starts_s
    assert {row["src_packets"] for row in rows} == {2}


def test_one_wrong_clock_holds_up_no_flows(tmp_path: Path) -> None:
    """Behind a packet of another year, flows are given out as they end, not kept until that year comes."""
    asks = frames(*(udp(A, B, (10_000 + i, 7000)) for i in range(1000)), step_s=1)
    path = write(tmp_path / "a.pcap", [(EPOCH_S + 3.15e8, udp(A, B, (9999, 7000))), *asks])
    kept: list[int] = []

    class Counting(Writer):
        def write_row(self, _row: bytes) -> None:
            kept.append(len(meter._by_end))

    meter = Meter(Counting(BytesIO()), 120_000, 1_800_000, 100_000)
    _measure(meter, bytes(path))

    assert len(kept) == 1001
    assert max(kept) <= 121


def test_packets_slightly_out_of_order_stay_together(tmp_path: Path) -> None:
    """Some milliseconds back neither end a flow nor make it negative."""
    packets = frames(udp(A, B, (5000, 6000)), udp(A, B, (5000, 6000)), udp(A, B, (5000, 6000)), step_s=-0.01)
    (row,) = read(tmp_path, packets)

    assert (row["src_packets"], row["duration"]) == (3, 0)


def test_a_flood_is_bounded(tmp_path: Path) -> None:
    """Of too many flows those silent longest end sooner; none is lost, none comes twice."""
    ports = [*range(10_000, 10_500), 10_490, 10_000]
    packets = frames(*(udp(A, B, (port, 7000)) for port in ports), step_s=1e-5)
    rows = read(tmp_path, packets, most_open=16)

    assert sorted(row["src_port"] for row in rows) == sorted([*range(10_000, 10_500), 10_000])
    assert [row["src_packets"] for row in rows if row["src_port"] == 10_490] == [2]


def test_tunnels_over_udp_stay_closed(tmp_path: Path) -> None:
    """A datagram to the port of a tunnel is counted as what it is, whatever it holds."""
    rows = read(tmp_path, frames(*(udp(A, B, (5000, port), bytes(60)) for port in (2152, 5247, 37_008))))

    assert [(row["dst_port"], row["src_bytes"]) for row in rows] == [(2152, 60), (5247, 60), (37_008, 60)]


@pytest.mark.parametrize("link_type", [1, 0])
def test_fragments_and_other_frames_are_in_no_flow(link_type: int, tmp_path: Path) -> None:
    """ARP and later fragments are counted as left out, and no flow is made of what looks like ports."""
    first = bytearray(udp(A, B, (5000, 6000), bytes(1000)))
    later = bytearray(first)
    first[20:22], later[20:22] = b"\x20\x00", b"\x00\x7d"
    arp = bytes(12) + b"\x08\x06\x00\x01" + bytes(40)
    # BSD loopback has four bytes in place of Ethernet's fourteen.
    contents = [
        content if link_type else b"\x02\0\0\0" + content[14:]
        for content in (bytes(first), bytes(later), arp)
    ]
    (tmp_path / "a.pcap").write_bytes(pcap(frames(*contents), link_type=link_type))
    source = PcapSource(tmp_path / "a.pcap")
    rows, rejects = read_all(source)

    assert not rejects
    assert [row["src_port"] for row in rows] == [5000]
    assert (source.packets, source.left_out) == (3, 2)


def test_packets_without_headers_are_one_reject(tmp_path: Path) -> None:
    """Ports that were not captured are not read from memory; the packets are told of, once."""
    path = tmp_path / "a.pcap"
    packets = [
        *conversation(EPOCH_S, A, B, PORTS, bytes(99)),
        (EPOCH_S + 1.0, udp(A, B, (5000, 6000), bytes(99))),
    ]
    path.write_bytes(pcap(packets, snap_bytes=42))
    (row,), (reject,) = read_all(PcapSource(path))

    assert (row["protocol"], row["src_bytes"]) == ("udp", 99)
    assert (reject.position, reject.reason) == (1, "unreadable_packets")
    assert reject.raw == packets[0][1][14:42]
    assert reject.detail.startswith("a.pcap record 2: 7 packets")


def test_cut_packets_count_in_full(tmp_path: Path) -> None:
    """Bytes are those that were sent, not those that were captured."""
    whole = conversation(EPOCH_S, A, B, PORTS, bytes(1300))
    (tmp_path / "b.pcap").write_bytes(pcap(whole, snap_bytes=60))
    source = PcapSource(tmp_path / "b.pcap")
    (row,), _ = read_all(source)
    (expected,) = read(tmp_path, whole)

    for name in ("src_bytes", "dst_bytes", "src_packets", "dst_packets", "state"):
        assert row[name] == expected[name]
    assert any("cut to 60 bytes" in note for note in source.notes)
