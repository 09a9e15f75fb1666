"""Recorded captures as flows, beside what tshark says of them, and captures that somebody has spoilt."""

import csv
import gzip
import random
import shutil
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from captures import Row, flows, pcap, pcapng, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.errors import SourceError
from connectors.source_pcap import PcapSource

pytest.importorskip("_lib_engine", reason="captures need nfstream: pip install 'weir[pcap]'")
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
needs_editcap = pytest.mark.skipif(shutil.which("editcap") is None, reason="needs editcap")

End = tuple[str, int]

# Flows by five-tuple as tshark counts them, where ours differ, and why.
FLOWS = {
    "benign_dns_edns": 69,  # 73: four later fragments, which have no ports, are in no flow
    "benign_skype": 294,  # 293: two IGMP queries 125 s apart, more than the idle timeout
}
REASONS = {"truncated_capture", "damaged_capture", "unreadable_packets", "absurd_time"}


def tshark(path: Path, wanted: str, *names: str) -> list[list[str]]:
    fields = [part for name in names for part in ("-e", name)]
    command = ["tshark", "-n", "-r", str(path), "-Y", wanted, "-T", "fields", *fields]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in ended.stdout.splitlines()]


@pytest.fixture(scope="session")
def captures(data_dir: Path) -> dict[str, Row]:
    """What labels.csv says of the captures, by their names."""
    with (data_dir / "pcaps" / "labels.csv").open() as file:
        return {
            row["file"].removesuffix(".pcap"): row | {"path": data_dir / "pcaps" / row["file"]}
            for row in csv.DictReader(file)
        }


@pytest.mark.data
@needs_tshark
def test_every_packet_is_in_a_flow_or_left_out(captures: dict[str, Row]) -> None:
    """Captures are read to their last packet; only frames without IP and later fragments are in no flow."""
    assert len(captures) == 17
    for name, said in captures.items():
        source = PcapSource(said["path"])
        rows, rejects = read_all(source)
        in_flows = sum(row["src_packets"] + (row["dst_packets"] or 0) for row in rows)
        left_out = tshark(
            said["path"], "not (ip or ipv6) or ip.frag_offset > 0 or ipv6.fraghdr.offset > 0", "frame.number"
        )

        assert not rejects
        assert source.packets == int(said["packets"])
        assert source.left_out == len(left_out)
        assert in_flows + len(left_out) == int(said["packets"])
        assert len(rows) == FLOWS.get(name, int(said["flows_5tuple"])), name


@dataclass
class Stream:
    """A TCP conversation as tshark's packets tell it; the first sender is `ends[0]`."""

    ends: tuple[End, End]
    first_s: float
    packets: Counter[End] = field(default_factory=Counter)
    payload: Counter[End] = field(default_factory=Counter)
    last_s: float = 0.0


NAMES = (
    "tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "tcp.len",
    "frame.time_epoch",
)  # fmt: skip


def streams(path: Path) -> list[Stream]:
    found: dict[str, Stream] = {}
    for number, src, src6, src_port, dst, dst6, dst_port, size, time_s in tshark(path, "tcp", *NAMES):
        a, b = (src or src6, int(src_port)), (dst or dst6, int(dst_port))
        stream = found.setdefault(number, Stream((a, b), float(time_s)))
        stream.packets[a] += 1
        stream.payload[a] += int(size)
        stream.last_s = float(time_s)
    return list(found.values())


def side(row: Row, name: str) -> End:
    address = IPv6Address(row[f"{name}_ip"])
    return str(address.ipv4_mapped or address), row[f"{name}_port"]


# Their first packet is an answer: from port 443, 53 or 80 without a SYN, or a SYN/ACK.
TURNED = {"benign_1kxun_mixed": 2, "benign_dns_edns": 7, "benign_skype": 1, "benign_wikipedia_browse": 1}


@pytest.mark.data
@needs_tshark
def test_connections_are_those_of_tshark(captures: dict[str, Row]) -> None:
    """Sides, packets, payload bytes and times of every TCP conversation agree, to the millisecond."""
    n_turned = Counter[str]()
    for name, said in captures.items():
        ours = {
            (side(r, "src"), side(r, "dst")): r
            for r in read_all(PcapSource(said["path"]))[0]
            if r["protocol"] == "tcp"
        }
        theirs = streams(said["path"])
        assert len(ours) == len(theirs)
        for stream in theirs:
            src, dst = stream.ends if stream.ends in ours else stream.ends[::-1]
            n_turned[name] += (src, dst) != stream.ends
            row = ours[src, dst]
            assert (row["src_packets"], row["dst_packets"] or 0) == (stream.packets[src], stream.packets[dst])
            assert (row["src_bytes"], row["dst_bytes"] or 0) == (stream.payload[src], stream.payload[dst])
            assert row["duration"] == pytest.approx(stream.last_s - stream.first_s, abs=0.0011)
            assert row["event_time"].timestamp() == pytest.approx(stream.last_s, abs=0.0011)

    assert +n_turned == TURNED


STATES = {
    "attack_ssh_guessing": {("established", "ssh"): 11},
    "attack_ftp_bruteforce": {("established", "ftp"): 30},
    "attack_tcp_syn_flood": {("attempted", None): 200},
    "attack_ipv6_rsmurf": {("attempted", None): 1},
    "attack_heartbleed": {("reset", "tls"): 1},
    "attack_smb_mimikatz_copy": {("established", "smb"): 1},
    "benign_quic_browse": {("established", "quic"): 1},
    "benign_http_browse": {("established", "http"): 8, ("established", None): 5},
    "attack_nmap_scan": {
        ("attempted", None): 8, ("rejected", None): 6, ("reset", None): 3, ("established", "dns"): 1,
    },
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("name", STATES)
def test_what_recorded_attacks_look_like(name: str, captures: dict[str, Row]) -> None:
    """States and services of captures whose story is known."""
    rows, _ = read_all(PcapSource(captures[name]["path"]))

    assert Counter((row["state"], row["service"]) for row in rows) == STATES[name]


@pytest.mark.data
@needs_editcap
@pytest.mark.parametrize("name", ["benign_1kxun_mixed", "attack_nmap_scan", "benign_dns_edns"])
def test_pcapng_of_others_reads_the_same(name: str, captures: dict[str, Row], tmp_path: Path) -> None:
    """A capture that Wireshark's tool has written as pcapng gives the same flows."""
    path = captures[name]["path"]
    subprocess.run(["editcap", "-F", "pcapng", str(path), str(tmp_path / "a")], check=True)
    found, expected = (read_all(PcapSource(p))[0] for p in (tmp_path / "a", path))

    assert [row | {"flow_id": ""} for row in found] == [row | {"flow_id": ""} for row in expected]


@pytest.mark.data
def test_recorded_captures_read_the_same_again(captures: dict[str, Row]) -> None:
    """Also what nDPI says of them, and the ids: nothing depends on memory, clocks or chance."""
    for said in captures.values():
        assert read_all(PcapSource(said["path"])) == read_all(PcapSource(said["path"]), rows=7)


@pytest.mark.data
@needs_tshark
def test_a_capture_of_a_long_time_comes_in_pieces(captures: dict[str, Row]) -> None:
    """Shorter timeouts give more flows and lose no packet and no byte."""
    path = captures["benign_skype"]["path"]
    whole, pieces = (
        read_all(PcapSource(path, idle_s=idle_s, active_s=active_s))[0]
        for idle_s, active_s in ((120, 1800), (1, 5))
    )

    assert len(pieces) > 2 * len(whole)
    for name in ("packets", "bytes"):
        totals = [sum(r[f"src_{name}"] + (r[f"dst_{name}"] or 0) for r in rows) for rows in (whole, pieces)]
        assert totals[0] == totals[1]


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """Cut, swap, overwrite and insert, once or often; now and then packed, and the packed file cut."""
    data = bytearray(content[: rng.choice([2000, 20_000])])
    for _ in range(rng.choice([1, 3, 30])):
        at, size = rng.randrange(len(data)), rng.randrange(1, 40)
        change = rng.randrange(5)
        if change == 0:
            data[at] = rng.randrange(256)
        elif change == 1:
            del data[at : at + size]
        elif change == 2:
            data[at:at] = rng.randbytes(size)
        elif change == 3:
            data[at : at + 4] = b"\xff\xff\xff\xff"
        else:
            data[at : at + size], data[-size:] = data[-size:], data[at : at + size]
    packed = rng.random() < 0.2
    return gzip.compress(data)[: -rng.randrange(1, 40)] if packed else bytes(data)


def assert_survives(path: Path) -> None:
    """Reading gives rows and rejects, or one clear error; within the time limit of a test."""
    error, rejects = "", []
    try:
        _, rejects = read_all(PcapSource(path), rows=50)
    except SourceError as raised:
        error = str(raised)

    assert not error or error.startswith(str(path))
    assert "ended with code" not in error
    assert {reject.reason for reject in rejects} <= REASONS
    assert all(reject.raw and reject.detail.startswith(path.name) for reject in rejects)


@pytest.mark.data
def test_spoilt_recordings_are_survived(captures: dict[str, Row], tmp_path: Path) -> None:
    """No crash, no hang: whatever is wrong with real captures becomes rejects or one error."""
    rng = random.Random(17)
    for said in captures.values():
        content = said["path"].read_bytes()
        for _ in range(6):
            (tmp_path / "a.pcap").write_bytes(spoilt(content, rng))
            assert_survives(tmp_path / "a.pcap")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), form=st.sampled_from([pcap, pcapng]))
def test_spoilt_captures_are_survived(seed: int, form: Any, tmp_path: Path) -> None:
    """The same for written captures of both forms."""
    (tmp_path / "a.pcap").write_bytes(spoilt(form(flows(60)), random.Random(seed)))

    assert_survives(tmp_path / "a.pcap")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    packets=st.lists(
        st.tuples(st.floats(1, 4e9), st.binary(min_size=1, max_size=120)), min_size=1, max_size=20
    )
)
def test_any_packets_are_survived(packets: list[tuple[float, bytes]], tmp_path: Path) -> None:
    """Packets may hold anything, and be of any time; each is in a flow or left out."""
    ethernet = bytes(12) + b"\x08\x00"
    (tmp_path / "a.pcap").write_bytes(
        pcap((time_s, ethernet + b"\x45" + content) for time_s, content in packets)
    )
    source = PcapSource(tmp_path / "a.pcap")
    rows, rejects = read_all(source)

    assert source.packets == len(packets)
    in_flows = sum(row["src_packets"] + (row["dst_packets"] or 0) for row in rows)
    assert in_flows + (source.left_out or 0) == len(packets)
    assert {reject.reason for reject in rejects} <= {"unreadable_packets"}


@pytest.mark.data
def test_a_spoilt_packet_leaves_the_flows_around_it(captures: dict[str, Row], tmp_path: Path) -> None:
    """Where only the inside of one packet is wrong, all other flows are as before."""
    content = bytearray(captures["attack_ssh_guessing"]["path"].read_bytes())
    rows, _ = read_all(PcapSource(captures["attack_ssh_guessing"]["path"]))
    content[24 + 16 + 14 : 24 + 16 + 14 + 20] = b"\xff" * 20
    (tmp_path / "a.pcap").write_bytes(content)
    spoilt_rows, _ = read_all(PcapSource(tmp_path / "a.pcap"))
    same = defaultdict(int)
    for row in [*rows, *spoilt_rows]:
        same[row["src_port"], row["src_packets"], row["src_bytes"], row["dst_bytes"], row["event_time"]] += 1

    assert sorted(same.values()) == [1, 1, *[2] * 10]
