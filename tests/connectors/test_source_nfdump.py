"""nfdump flows, through the program and from its JSON: meaning, one direction, times, and broken files."""

import gzip
import os
import random
import resource
import stat
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from flow_files import need_nfdump, nfdump_binary, nfdump_json, nfdump_text, packed_flow, write_binary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import nfdump_json as text_form
from connectors import source_nfdump
from connectors.base import Reject, Source
from connectors.errors import SourceError
from connectors.source_nfdump import NfdumpSource, recognises


def read(source: Source, rows: int = 7) -> tuple[list[dict[str, Any]], list[Reject]]:
    chunks = list(source.chunks(rows=rows))
    table = pa.Table.from_batches([chunk.rows for chunk in chunks], source.record_type.schema)
    return table.to_pylist(), [reject for chunk in chunks for reject in chunk.rejects]


def source_of(path: Path, *records: str) -> NfdumpSource:
    path.write_text("[\n" + ",\n".join(records) + "]\n")
    return NfdumpSource(path)


def flow(path: Path, **changes: str) -> dict[str, Any]:
    """Return the flow of a record with some fields changed; values are JSON."""
    return read(source_of(path, nfdump_text(0, **changes)))[0][0]


def printed(path: Path) -> bytes:
    """Return what the program prints, apart from our reading of it."""
    command = ["nfdump", "-r", str(path), "-o", "json"]
    return subprocess.run(command, capture_output=True, check=True, env={**os.environ, "TZ": "UTC"}).stdout


def test_every_field_has_its_meaning(tmp_path: Path) -> None:
    """The sender is the source, the end is the event time, bytes and packets are exact."""
    row = flow(tmp_path / "a", in_bytes="123456789012", in_packets="98765432")

    assert row["event_time"] == datetime(2024, 5, 6, 7, 0, 0, 200_000, tzinfo=UTC)
    assert [row["src_ip"].hex()[24:], row["dst_ip"].hex()[24:]] == ["0a000007", "0a000009"]
    assert [row["src_port"], row["dst_port"], row["protocol"]] == [40_000, 443, "tcp"]
    assert [row["src_bytes"], row["src_packets"]] == [123_456_789_012, 98_765_432]
    assert [row["dst_bytes"], row["dst_packets"], row["service"], row["label"]] == [None] * 4
    assert row["duration"] == pytest.approx(0.077)


@pytest.mark.parametrize(("text", "us"), [("7", 7000), ("42", 42_000), ("942", 942_000)])
def test_milliseconds_of_nfdump_1_6_are_whole_numbers(text: str, us: int, tmp_path: Path) -> None:
    """It writes 7 ms as `.7`, and calls the times t_first and t_last."""
    times = {"t_first": '"2024-05-06T07:00:00.0"', "t_last": f'"2024-05-06T07:00:00.{text}"'}
    record = nfdump_text(0).replace('"first"', '"unused"').replace('"last"', '"unused_too"')
    old = record.replace("{\n", "{\n" + "".join(f'"{k}" : {v},\n' for k, v in times.items()))
    (row,) = read(source_of(tmp_path / "a", old))[0]

    assert row["event_time"].microsecond == us
    assert row["duration"] == us / 1e6


STATES = [
    (6, "......S.", "attempted"), (6, "...A..S.", "established"), (6, "...AP.SF", "established"),
    (6, "...A.RS.", "reset"), (6, "...A.R..", "other"), (6, ".....R..", "other"), (6, "........", "other"),
    (17, "........", "other"), (1, "", "other"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "flags", "state"), STATES)
def test_states_of_one_direction_say_what_the_sender_did(
    protocol: int, flags: str, state: str, tmp_path: Path
) -> None:
    """Whether udp was answered stands in another record; a lone reset refuses another flow."""
    assert flow(tmp_path / "a", proto=str(protocol), tcp_flags=f'"{flags}"')["state"] == state


@pytest.mark.parametrize(
    ("changes", "dst"),
    [
        ({"out_packets": "3", "out_bytes": "400"}, (3, 400)), ({}, (None, None)),
        ({"out_packets": "0", "out_bytes": "0"}, (None, None)),
    ],
)  # fmt: skip
def test_only_counters_of_both_directions_are_an_answer(
    changes: dict[str, str], dst: tuple[int | None, int | None], tmp_path: Path
) -> None:
    """Counters of 0 are those of nobody."""
    row = flow(tmp_path / "a", proto="17", tcp_flags='""', **changes)

    assert (row["dst_packets"], row["dst_bytes"]) == dst
    assert row["state"] == ("established" if dst[0] else "other")


def test_the_program_reads_every_kind_of_address(tmp_path: Path) -> None:
    """IPv6, ICMP without ports, numbers that have no name; times to the millisecond."""
    need_nfdump()
    flows = [
        packed_flow(src="2001:db8::1", dst="2001:db8::2", n_bytes=4_000_000_000, n_packets=3_000_000),
        packed_flow(protocol=1, dst_port=0x0800), packed_flow(protocol=58, src="fe80::1", dst="ff02::1"),
        packed_flow(protocol=253),
    ]  # fmt: skip
    rows = read(NfdumpSource(write_binary(tmp_path / "a", flows)))[0]

    assert [row["protocol"] for row in rows] == ["tcp", "icmp", "ipv6-icmp", "253"]
    assert [row["src_port"] for row in rows] == [40_000, None, None, None]
    assert rows[0]["src_ip"].hex() == "20010db8000000000000000000000001"
    assert (rows[0]["src_bytes"], rows[0]["src_packets"]) == (4_000_000_000, 3_000_000)
    assert rows[0]["event_time"] == datetime(2024, 5, 6, 7, 8, 9, 82_000, tzinfo=UTC)
    assert rows[0]["duration"] == pytest.approx(0.077)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_binary_and_saved_json_give_the_same_flows_and_ids(
    zone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever our own time zone is."""
    need_nfdump()
    monkeypatch.setenv("TZ", zone)
    binary = nfdump_binary(tmp_path / "a", 2500)
    (tmp_path / "b").write_bytes(printed(binary))
    (tmp_path / "c").write_bytes(gzip.compress(printed(binary)))
    rows = read(NfdumpSource(binary))[0]

    assert len(rows) == 2500
    assert rows == read(NfdumpSource(tmp_path / "b"))[0] == read(NfdumpSource(tmp_path / "c"))[0]


def test_every_layout_of_the_json_gives_the_same_flows(tmp_path: Path) -> None:
    """One field a line, indented by another tool, one flow a line, with Windows line ends."""
    records = [nfdump_text(i) for i in range(40)]
    forms = {
        "plain": "[\n" + ",\n".join(records) + "\n]\n",
        "indented": "[\n  " + ",\n  ".join(r.replace("\n", "\n  ") for r in records) + "\n]\n",
        "lines": "\n".join(r.replace("\n", "").replace("\t", "") for r in records),
        "windows": ("[\n" + ",\n".join(records) + "]\n").replace("\n", "\r\n"),
    }
    found = []
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content.encode())
        rows, rejects = read(NfdumpSource(tmp_path / name))
        assert rejects == []
        found.append([{**row, "flow_id": ""} for row in rows])

    assert len(found[0]) == 40
    assert found == [found[0]] * 4


def test_broken_records_are_rejects_with_their_lines(tmp_path: Path) -> None:
    """One that lost its end takes no other with it; events of firewalls are no flows."""
    rows, rejects = read(NfdumpSource(nfdump_json(tmp_path / "a.json", 57)))

    assert {r.position: r.reason for r in rejects} == {
        5: "out_of_range", 11: "unreadable_value", 17: "not_json", 23: "not_a_flow", 29: "unreadable_value",
    }  # fmt: skip
    assert [row["position"] for row in rows] == [i for i in range(57) if i not in {5, 11, 17, 23, 29}]
    lines = (tmp_path / "a.json").read_text().splitlines()
    for reject in rejects:
        number = int(reject.detail.removeprefix("a.json line ").partition(":")[0])
        assert lines[number - 1] == "{"
        assert reject.raw.decode().splitlines()[3] == lines[number + 2]


def test_a_file_that_breaks_off_says_so(tmp_path: Path) -> None:
    """The flows before are kept; the piece that is left is a reject."""
    path = nfdump_json(tmp_path / "a", 20)
    path.write_bytes(path.read_bytes()[:-30])
    rows, (reject,) = read(NfdumpSource(path))

    assert (len(rows), reject.position, reject.reason) == (19, 19, "not_json")
    assert reject.detail.endswith("; it breaks off")


def test_a_record_of_megabytes_is_one_reject(tmp_path: Path) -> None:
    """Memory is bounded, and the next record is read."""
    path = tmp_path / "a"
    records = [nfdump_text(0), nfdump_text(1, label='"' + "x\n" * 5_000_000 + '"'), nfdump_text(2)]
    rows, (reject,) = read(source_of(path, *records))

    assert [row["position"] for row in rows] == [0, 2]
    assert (reject.reason, len(reject.raw)) == ("record_too_long", text_form.LONGEST_RECORD)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins as no file of nfdump does"), (b"[\nNo matching flows\n]\n", "begins as no file"),
        (b"ts,te,td,sa\n", "begins as no file"), (bytes(500), "begins as no file"),
        (b"[\n" + nfdump_text(0, type='"EVENT"').encode() + b"\n]", "none of its first 1 records is a flow"),
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    """The error says what was expected."""
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(SourceError, match=message):
        NfdumpSource(tmp_path / "a")
    with pytest.raises(SourceError, match="no such file; expected a binary file of nfdump"):
        NfdumpSource(tmp_path / "b")


def test_a_development_version_that_writes_packets_as_bytes_is_refused(tmp_path: Path) -> None:
    """Wrong figures are worse than none."""
    with pytest.raises(SourceError, match="as many bytes as packets in each flow"):
        source_of(tmp_path / "a", *(nfdump_text(i, in_bytes=str(1 + i % 9)) for i in range(30)))


def test_without_the_program_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved JSON needs no program."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SourceError, match=r"not installed; install it \(package nfdump\), or give what"):
        NfdumpSource(nfdump_binary(tmp_path / "a", 3))
    assert len(read(NfdumpSource(nfdump_json(tmp_path / "b", 3)))[0]) == 3


def test_a_gzipped_binary_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The program cannot read it."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(nfdump_binary(tmp_path / "a", 3).read_bytes()))

    with pytest.raises(SourceError, match="unpack it"):
        NfdumpSource(tmp_path / "a.gz")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Return the processes that are started, as they are started."""
    processes: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(source_nfdump.subprocess, "Popen", Noted)
    return processes


def impostor(folder: Path, script: str) -> None:
    """Put a program called nfdump into a folder."""
    program = folder / "nfdump"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("script", ["exec sleep 600", "exec >&-; exec sleep 600"])
def test_a_program_that_goes_silent_is_ended(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    """A hang becomes an error, and nothing is left running."""
    impostor(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(source_nfdump, "SILENCE_S", 0.3)

    with pytest.raises(SourceError, match="nfdump has said nothing for"):
        NfdumpSource(nfdump_binary(tmp_path / "a", 3))
    assert [process.poll() for process in started] == [-9]


def test_a_program_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is named."""
    impostor(tmp_path, "")
    (tmp_path / "nfdump").write_bytes(b"\x7fELF, but no program")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(SourceError, match=r"nfdump: cannot be started \(Exec format error\)"):
        NfdumpSource(nfdump_binary(tmp_path / "a", 3))


def test_the_program_ends_when_we_stop(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """A reader that goes away in the middle leaves no process behind."""
    need_nfdump()
    source = NfdumpSource(nfdump_binary(tmp_path / "a", 20_000))
    chunks = source.chunks(rows=5)
    next(chunks)
    assert started[-1].poll() is None
    chunks.close()

    assert started[-1].poll() == -9


def test_a_process_with_thousands_of_open_files_reads_on(tmp_path: Path) -> None:
    """An exporter's listener or a long service has more of them than `select` can name."""
    need_nfdump()
    binary = nfdump_binary(tmp_path / "a", 30)
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, min(most, 4096)), most))
    try:
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2048:
            pytest.skip("this system allows fewer than 2048 open files")
        with ExitStack() as stack:
            for _ in range(1100):
                stack.enter_context(binary.open("rb"))
            assert len(read(NfdumpSource(binary))[0]) == 30
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


def test_what_the_program_complains_about_is_an_error(tmp_path: Path) -> None:
    """It leaves records out and exits with 0: what could be read is given first."""
    need_nfdump()
    flows = [packed_flow(second=i) for i in range(100)]
    flows[50] = flows[50][:6] + b"\x63" + flows[50][7:]
    source = NfdumpSource(write_binary(tmp_path / "a", flows))
    chunks = source.chunks(rows=30)

    assert [next(chunks).next for _ in range(4)] == [30, 60, 90, 99]
    with pytest.raises(SourceError, match=r"could not read all of it \(Corrupt data file"):
        next(chunks)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_json_never_crashes(data: st.DataObject, tmp_path: Path) -> None:
    """Bytes that are overwritten, cut out or put in spoil few records; positions stay dense."""
    content = bytearray(nfdump_json(tmp_path / "whole", 30).read_bytes())
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "a"
    path.write_bytes(content)
    try:
        source = NfdumpSource(path)
    except SourceError:
        return
    rows, rejects = read(source)
    positions = sorted([*(row["position"] for row in rows), *(reject.position for reject in rejects)])

    assert positions == list(range(len(positions)))
    assert len(rows) >= 30 - 2 * 8


@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_do_not_depend_on_how_the_text_comes(sizes: list[int], tmp_path: Path) -> None:
    """A pipe hands over what it has."""
    text = nfdump_json(tmp_path / "a", 40).read_bytes()
    parts, at = [], 0
    while at < len(text):
        size = sizes[len(parts) % len(sizes)]
        parts.append(text[at : at + size])
        at += size

    assert list(text_form.pieces(parts)) == list(text_form.pieces([text]))


@pytest.mark.data
def test_the_public_file_is_read_to_its_last_flow(data_dir: Path) -> None:
    """Flows, bytes and packets are those that nfdump itself counts."""
    need_nfdump()
    path = data_dir / "flows" / "nfdump_ctu_malicious.nfdump"
    said = subprocess.run(
        ["nfdump", "-I", "-r", str(path)], capture_output=True, check=True, text=True
    ).stdout
    counted = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    listed = subprocess.run(
        ["nfdump", "-q", "-r", str(path), "-o", "csv"], capture_output=True, check=True
    ).stdout
    rows, rejects = read(NfdumpSource(path), rows=1000)

    assert (len(rows), rejects) == (int(counted["Flows"]), []) == (4593, [])
    assert listed.count(b"\n") == 4593
    assert sum(row["src_bytes"] for row in rows) == int(counted["Bytes"])
    assert sum(row["src_packets"] for row in rows) == int(counted["Packets"])
    assert Counter(row["protocol"] for row in rows) == {"tcp": 4576, "udp": 17}
    assert max(row["event_time"] for row in rows).timestamp() == pytest.approx(1_515_771_483.981)
    assert all(row["dst_bytes"] is None for row in rows)


@pytest.mark.data
@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_public_file_never_crashes_or_hangs(seed: int, data_dir: Path, tmp_path: Path) -> None:
    """Bytes that are overwritten or cut away: flows, then an error of ours if any are missing."""
    need_nfdump()
    rng = random.Random(seed)
    content = bytearray((data_dir / "flows" / "nfdump_ctu_malicious.nfdump").read_bytes())
    for _ in range(15):
        content[rng.randrange(4, len(content))] = rng.randrange(256)
    path = tmp_path / "a"
    path.write_bytes(content[: rng.randrange(len(content))] if seed % 4 == 3 else content)
    begun = time.monotonic()
    n = 0
    try:
        for chunk in NfdumpSource(path).chunks():
            n = chunk.next
    except SourceError as error:
        assert str(path) in str(error)  # noqa: PT017 (there need not be one)
    else:
        assert n == 4593
    assert time.monotonic() - begun < 30


def test_recognises_what_nfdump_writes(tmp_path: Path) -> None:
    """Both layouts of the binary form in either byte order, and the JSON; nothing else."""
    assert recognises(nfdump_binary(tmp_path / "a", 1).read_bytes())
    assert all(recognises(head) for head in (b"\xa5\x0c\x00\x02rest", b"\x0c\xa5\x02\x00rest"))
    assert recognises(nfdump_json(tmp_path / "b", 1).read_bytes())
    assert not any(recognises(head) for head in (b"", b"\x0c\xa5\x63\x00", b'{"type":"FLOW"}\n', b"[{}]\n"))
