"""Real export datagrams, read from files and from a socket, and whatever else may come."""

import random
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netflow_datagrams import (
    FLOW,
    assert_sound,
    data,
    flow,
    ipfix,
    template,
    v5,
    v5_record,
    v9,
    write_datagrams,
)
from netflow_tshark import Seen, capture, payloads, seen

from connectors.base import Chunk
from connectors.errors import SourceError
from connectors.netflow.assemble import assemble
from connectors.netflow.collector import Collector
from connectors.source_netflow import DatagramFiles, recognises

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

# tshark reads one message a datagram (ipfix.dat holds three, netflow5.dat two or more), believes counts
# that cannot be (the two broken v5 datagrams), reads as many sets of v9 as its header counts records
# (invalid01), and stops at fields of variable length in v9 (h3c). These were counted by hand: from the
# lengths and counts in their headers.
BY_HAND = {
    "ipfix.dat": (12, 0, 1, []),
    "netflow5.dat": (30, 0, 0, []),
    "netflow5_test_invalid01.dat": (0, 0, 0, ["wrong_count"]),
    "netflow5_test_invalid02.dat": (0, 0, 0, ["wrong_count"]),
    "netflow9_test_invalid01.dat": (2, 0, 1, []),
    "netflow9_test_h3c_data3281.dat": (16, 0, 0, []),
}
# Both pairs of time fields are printed; no flows; another byte counter than cflow.octets; sampled.
OTHER_DURATIONS = ("ipfix_test_barracuda", "ipfix_test_procera")
OTHER_OCTETS = (
    "ipfix_test_yaf",
    "netflow9_test_cisco_asa",
    "netflow9_test_cisco_wlc",
    "netflow5_test_juniper",
)


def group(path: Path) -> str:
    """Return which exporter a file is from: files of templates and of data have its name in common."""
    return re.split(r"_(?:tpls?|data|opttpl|dpi)", path.stem)[0]


def in_order(data_dir: Path) -> list[Path]:
    """Return the datagrams, those with templates before the others of their exporter."""
    files = (data_dir / "netflow").glob("*.dat")
    return sorted(files, key=lambda path: (group(path), "tpl" not in path.name, path.name))


def read_real(data_dir: Path) -> Iterator[tuple[Path, Chunk, dict[str, int]]]:
    """Yield each datagram with what it gives, read with the state of its exporter."""
    collectors: dict[str, Collector] = {}
    for path in in_order(data_dir):
        collector = collectors.setdefault(group(path), Collector(sensor="x"))
        before = collector.counts.copy()
        chunk = assemble(list(collector.feed(path.read_bytes(), "x", where=path.name)), 0)
        yield path, chunk, collector.counts - before


@cache
def as_tshark_reads(data_dir: Path, folder: Path) -> list[Seen]:
    paths = in_order(data_dir)
    groups = sorted({group(path) for path in paths})
    file = folder / "all.pcap"
    file.write_bytes(capture([(groups.index(group(path)), path.read_bytes()) for path in paths]))
    return seen(file)


@pytest.mark.data
@needs_tshark
def test_real_datagrams_hold_the_records_that_tshark_finds(data_dir: Path, tmp_path: Path) -> None:
    """Each of the 92 datagrams gives as many records, byte counts and durations as in tshark."""
    compared = 0
    for (path, chunk, counted), other in zip(
        read_real(data_dir), as_tshark_reads(data_dir, tmp_path), strict=True
    ):
        rows = chunk.rows.to_pylist()
        others = counted.get("non_flow_records", 0), counted.get("options_records", 0)
        if path.name in BY_HAND:
            reasons = [reject.reason for reject in chunk.rejects]
            assert (len(rows), *others, reasons) == BY_HAND[path.name], path.name
            continue
        assert len(rows) + sum(others) == other.n_records, path.name
        if other.durations_ms and not path.name.startswith(OTHER_DURATIONS):
            assert sorted(round(1000 * row["duration"]) for row in rows) == other.durations_ms, path.name
            compared += len(rows)
        if not path.name.startswith(OTHER_OCTETS):
            assert sorted(row["src_bytes"] for row in rows) == other.octets, path.name

    assert compared > 280


@pytest.mark.data
@needs_tshark
def test_sets_without_templates_are_those_that_tshark_finds(data_dir: Path, tmp_path: Path) -> None:
    """What waits for ever is rejected in the end: as many sets as tshark cannot read."""
    waiting: dict[str, Collector] = {}
    for path in in_order(data_dir):
        if path.name not in BY_HAND:
            collector = waiting.setdefault(group(path), Collector())
            list(collector.feed(path.read_bytes(), "x"))
    rejects = [found for collector in waiting.values() for found in collector.give_up()]
    unread = sum(
        other.n_without_template
        for path, other in zip(in_order(data_dir), as_tshark_reads(data_dir, tmp_path), strict=True)
        if path.name not in BY_HAND
    )

    assert len(assemble(rejects, 0).rejects) == unread == 7


@pytest.mark.data
@needs_tshark
def test_a_capture_of_exports_is_read_whole(data_dir: Path) -> None:
    """The ten packets of a v9 exporter hold the records that tshark finds."""
    path = data_dir / "netflow" / "netflowv9_export.pcap"
    collector = Collector(sensor="x")
    found = [one for payload in payloads(path.read_bytes()) for one in collector.feed(payload, "x")]
    chunk = assemble(found, 0)
    others = collector.counts["non_flow_records"] + collector.counts["options_records"]

    assert chunk.rows.num_rows + others == sum(one.n_records for one in seen(path))
    assert chunk.rejects == ()


@pytest.mark.data
def test_real_datagrams_are_read_to_the_last(data_dir: Path) -> None:
    """All 92: the flows, other records, options and broken pieces, pinned from the test against tshark."""
    totals = [
        (chunk.rows.num_rows, counted.get("non_flow_records", 0), counted.get("options_records", 0))
        for _, chunk, counted in read_real(data_dir)
    ]
    broken = {path.name: c.rejects[0].reason for path, c, _ in read_real(data_dir) if c.rejects}

    assert len(totals) == 92
    assert [sum(column) for column in zip(*totals, strict=True)] == [417, 61, 42]
    assert broken == {
        "netflow5_test_invalid01.dat": "wrong_count",
        "netflow5_test_invalid02.dat": "wrong_count",
        "netflow9_test_nprobe_dpi.dat": "trailing_bytes",  # 17 bytes behind its record
    }


@pytest.mark.data
def test_real_data_before_its_templates_gives_the_same_flows(data_dir: Path) -> None:
    """The order in which templates and data of an exporter come does not change what is read."""
    folder = data_dir / "netflow"
    for exporter in ("ipfix_test_mikrotik", "ipfix_test_openbsd_pflow", "netflow9_test_cisco_asa_1"):
        files = [path.read_bytes() for path in in_order(data_dir) if group(path) == exporter]
        ids = []
        for order in (files, files[::-1]):
            collector = Collector(sensor="x")
            found = [one for payload in order for one in collector.feed(payload, "x")]
            ids.append(sorted(assemble(found, 0).rows["flow_id"].to_pylist()))

        assert ids[0] == ids[1], exporter
        assert ids[0], folder


@pytest.mark.data
def test_real_datagrams_are_recognised(data_dir: Path) -> None:
    """But for two whose counts cannot be and one whose clock was not set; the capture is none."""
    paths = in_order(data_dir)
    refused = {path.name for path in paths if not recognises(path.read_bytes())}

    assert refused == {
        "netflow5_test_invalid01.dat",
        "netflow5_test_invalid02.dat",
        "netflow9_test_nprobe_dpi.dat",
    }
    assert not recognises((data_dir / "netflow" / "netflowv9_export.pcap").read_bytes())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_other_files_are_not_recognised(head: bytes) -> None:
    """Neither random bytes nor text begin as a datagram."""
    assert not recognises(head)


@pytest.mark.parametrize("version", [0, 1, 7, 11, 0xFFFF])
def test_other_versions_are_not_recognised(version: int) -> None:
    """However long a file is and whatever else in it looks like IPFIX."""
    head = ipfix(data(256, bytes(65_000)))

    assert recognises(head)
    assert not recognises(version.to_bytes(2, "big") + head[2:] + bytes(65_536))


MADE = [
    v5(v5_record(), v5_record(2), sequence=3),
    v9(template(256, FLOW), data(256, flow(), flow(sport=7)), sequence=1),
    ipfix(template(256, [*FLOW, (96, 65_535), (5, 4, 29_305)], version=10), sequence=4)
    + ipfix(data(256, *[flow() + b"\x03dns" + bytes(4)] * 3), sequence=4),
]


def survives(payload: bytes) -> None:
    """Feed something between good datagrams of another exporter: those must give all their flows."""
    collector = Collector()
    good = [*collector.feed(MADE[1], "good")]
    strange = [*collector.feed(payload, "bad"), *collector.feed(payload, "bad"), *collector.give_up()]
    good += collector.feed(v9(data(256, flow()), sequence=2), "good")

    assert_sound(assemble(strange, 5))
    assert assemble(good, 0).rows.num_rows == 3


@given(st.sampled_from(MADE), st.data())
def test_a_spoiled_datagram_spoils_nothing_else(payload: bytes, draw: st.DataObject) -> None:
    """Changed, cut, repeated or inserted bytes give rows, rejects or nothing: no crash, no hang."""
    spoiled = bytearray(payload)
    for _ in range(draw.draw(st.integers(1, 6))):
        at = draw.draw(st.integers(0, len(spoiled)))
        match draw.draw(st.sampled_from(["set", "cut", "insert", "double"])):
            case "set":
                spoiled[at : at + 1] = draw.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del spoiled[at : at + draw.draw(st.integers(1, 30))]
            case "insert":
                spoiled[at:at] = draw.draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff", b"\x01\0\0\x08"]))
            case _:
                spoiled += spoiled[:at]
    survives(bytes(spoiled))


@given(st.binary(max_size=300))
def test_any_bytes_survive(tail: bytes) -> None:
    """Headers of each version before anything at all."""
    for head in (b"", v5(count=1), v9(), v9(template(256, FLOW)) + b"\x01\x00", ipfix()):
        survives(head + tail)


@pytest.mark.data
def test_spoiled_real_datagrams_survive(data_dir: Path) -> None:
    """Real datagrams with random bytes changed, cut and put together, twelve times each."""
    rng = random.Random(20)
    real = [path.read_bytes() for path in in_order(data_dir)]
    for payload in real:
        for _ in range(12):
            spoiled = bytearray(payload[: rng.randrange(1, len(payload) + 1)] + rng.choice(real)[:400])
            for _ in range(rng.randrange(1, 20)):
                spoiled[rng.randrange(len(spoiled))] = rng.choice([0, 1, 4, 255, rng.randrange(256)])
            survives(bytes(spoiled))


@pytest.mark.data
def test_a_datagram_is_read_at_every_cut(data_dir: Path) -> None:
    """However many of its bytes arrive, what they hold is rows or a reject."""
    for name in ("netflow9_test_nprobe_dpi", "ipfix_test_yaf_tpls_option_tpl", "netflow9_test_valid01"):
        payload = (data_dir / "netflow" / f"{name}.dat").read_bytes()
        for end in range(len(payload)):
            survives(payload[:end])


def test_files_must_be_datagrams(tmp_path: Path) -> None:
    """A missing file, another kind of file and a long one are refused with what was expected."""
    text, long = tmp_path / "a.csv", tmp_path / "b.bin"
    text.write_text("a,b\n1,2\n")
    long.write_bytes(v5(v5_record()) + bytes(70_000))

    with pytest.raises(SourceError, match=r"a\.csv: begins as no export datagram; expected files"):
        DatagramFiles([text])
    with pytest.raises(SourceError, match=r"b\.bin: more than 65535 bytes are no datagram; expected"):
        DatagramFiles([long])
    with pytest.raises(SourceError, match=r"none\.dat: cannot be read \(No such file"):
        DatagramFiles([tmp_path / "none.dat"])
    with pytest.raises(SourceError, match=r"no file; expected files of one UDP payload"):
        DatagramFiles([])


def test_files_say_where_a_bad_record_stood(tmp_path: Path) -> None:
    """The name of the file, the set and the record in it."""
    source = DatagramFiles(write_datagrams(tmp_path, 60))
    rejects = [reject for chunk in source.chunks() for reject in chunk.rejects]

    assert rejects[0].detail.startswith("00002.dat set 1 record 6: conn@1: duration is -")
    assert rejects[-1].detail.startswith("00000.dat: set 1 has 20 bytes for template 400")
    assert source.counters()["rejected_no_template"] == 1
