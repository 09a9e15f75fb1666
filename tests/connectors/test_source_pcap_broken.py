"""Captures that are broken, or no captures; forms of files; a meter that fails."""

import gzip
import importlib.util
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from captures import flows, frames, pcap, pcapng, read_all, udp, write

from connectors import capture_meter
from connectors.errors import SourceError
from connectors.source_pcap import PcapSource, recognises

pytest.importorskip("_lib_engine", reason="captures need nfstream: pip install 'weir[pcap]'")

A, B = "10.1.0.7", "10.2.0.9"


FORMS = {
    "big-endian": lambda packets: pcap(packets, order=">"),
    "pcapng": pcapng,
    "gzip": lambda packets: gzip.compress(pcap(packets)),
    "gzip in two parts": lambda packets: (
        gzip.compress(pcap(packets)[:99]) + gzip.compress(pcap(packets)[99:])
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_the_same(form: str, tmp_path: Path) -> None:
    """Byte order, pcapng and gzip change nothing but the ids."""
    (tmp_path / "b").write_bytes(FORMS[form](flows(40)))
    (tmp_path / "a").write_bytes(pcap(flows(40)))
    found, expected = (read_all(PcapSource(tmp_path / name))[0] for name in "ba")

    assert [row | {"flow_id": ""} for row in found] == [row | {"flow_id": ""} for row in expected]
    assert len(found) == 39  # one of the forty lies in the year 2105


@pytest.mark.parametrize("form", ["pcap", "pcapng", "gzip"])
def test_every_cut_gives_the_flows_up_to_there(form: str, tmp_path: Path) -> None:
    """Wherever a capture breaks off, no more is lost than the packet that broke, and one reject says so."""
    noise = random.Random(0)
    packets = frames(*(udp(A, B, (5000 + i, 6000), noise.randbytes(30)) for i in range(5)))
    plain = pcapng(packets) if form == "pcapng" else pcap(packets)
    whole = gzip.compress(plain) if form == "gzip" else plain
    n_flows = []
    for end in range(len(whole) - 119, len(whole), 7):
        path = tmp_path / f"{end}"
        path.write_bytes(whole[:end])
        rows, rejects = read_all(PcapSource(path))
        assert [row["src_port"] for row in rows] == [5000 + i for i in range(len(rows))]
        assert [(r.position, r.reason) for r in rejects] in ([], [(len(rows), "truncated_capture")])
        assert all(r.raw for r in rejects)
        assert rejects or plain[:end].endswith(packets[len(rows) - 1][1])
        n_flows.append(len(rows))

    assert n_flows == sorted(n_flows)
    assert n_flows[0] >= 2
    assert n_flows[-1] in {4, 5}


def test_a_damaged_length_is_told_with_its_place(tmp_path: Path) -> None:
    """What stands before it is kept; what follows cannot be found, and the reject says so."""
    content = bytearray(pcap(frames(*(udp(A, B, (5000 + i, 6000)) for i in range(5)))))
    at = 24 + 3 * (16 + 42)
    content[at + 8 : at + 12] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.pcap").write_bytes(content)
    rows, (reject,) = read_all(PcapSource(tmp_path / "a.pcap"))

    assert [row["src_port"] for row in rows] == [5000, 5001, 5002]
    assert (reject.position, reject.reason) == (3, "damaged_capture")
    assert reject.raw == bytes(content[at:])
    assert reject.detail.startswith(f"a.pcap record 4: packet 4 at byte {at}")


BAD = {
    "empty": (b"", "the file is empty, expected a capture"),
    "text": (
        b"GET / HTTP/1.1\r\n" * 9,
        r"begins with b'GET / HT', expected a capture in pcap or pcapng form",
    ),
    "no packet": (pcap([]), "no packet in the capture"),
    "no packet, pcapng": (pcapng([]), "no packet in the capture"),
    "half a header": (pcap([])[:20], "begins with"),
    "half a packet": (pcap(frames(bytes(60)))[:-9], "broken before its first packet ends, at byte 24"),
    "wireless": (
        pcap(frames(bytes(60)), link_type=105),
        "frames of link type 105, expected one of 0 .BSD loopback",
    ),
    "any": (pcap(frames(bytes(60)), link_type=276), "capture on one interface instead of `any`"),
    "broken gzip": (
        gzip.compress(pcap(frames(bytes(60))), mtime=0)[:20],
        "the file is empty|begins with|broken before",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    """The error says what stands there, what was expected and what to do."""
    content, message = BAD[name]
    path = tmp_path / "a.pcap"
    path.write_bytes(content)

    with pytest.raises(SourceError, match=message):
        PcapSource(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    """Also one that goes away between opening and reading."""
    for path in (tmp_path, tmp_path / "none.pcap"):
        with pytest.raises(SourceError, match="no such file; expected a capture"):
            PcapSource(path)
    source = PcapSource(write(tmp_path / "a.pcap", flows(3)))
    (tmp_path / "a.pcap").unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        next(source.chunks())


@pytest.mark.parametrize(
    "limits", [{"idle_s": 0}, {"active_s": -1.0}, {"most_open": 0}, {"idle_s": float("nan")}]
)
def test_absurd_limits_are_refused(limits: dict[str, Any], tmp_path: Path) -> None:
    """Timeouts need to last, and a flow has to be kept."""
    with pytest.raises(SourceError, match="expected at least a millisecond"):
        PcapSource(write(tmp_path / "a.pcap", flows(1)), **limits)


def test_without_nfstream_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is named, and where it exists."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(SourceError, match=r"pip install 'weir\[pcap\]' \(Linux on x86-64"):
        PcapSource(write(tmp_path / "a.pcap", flows(1)))


def test_captures_are_recognised_and_nothing_else() -> None:
    """Both byte orders, both forms; not by four bytes alone."""
    assert all(recognises(head) for head in (pcap([]), pcap([], order=">"), pcapng([])))
    assert not any(
        recognises(head) for head in (b"", pcap([])[:4], pcap([])[:4] + bytes(40), b"\n\r\r\n" * 8, b"{}")
    )


def test_timeouts_are_part_of_the_source(tmp_path: Path) -> None:
    """Positions follow from them, so that other ones make another source."""
    path = write(tmp_path / "a.pcap", flows(3))

    assert PcapSource(path).source_id == PcapSource(path, idle_s=120.0).source_id
    assert PcapSource(path).source_id != PcapSource(path, idle_s=60.0).source_id


SHORT = f"""
import os, sys, time
size = 250 * {capture_meter.ROW.size}
sys.stdout.buffer.write(b"F" + size.to_bytes(4, "little") + bytes(size))
sys.stdout.flush()
END
"""


def replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> PcapSource:
    """Return a source whose meter is another program."""
    (tmp_path / "meter.py").write_text(program)
    monkeypatch.setattr(capture_meter, "__file__", str(tmp_path / "meter.py"))
    return PcapSource(write(tmp_path / "a.pcap", flows(3)))


def test_a_meter_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flows up to there have come; the error says how it ended and what to do."""
    chunks = replaced(tmp_path, monkeypatch, SHORT.replace("END", "os.kill(os.getpid(), 11)")).chunks(
        rows=100
    )

    assert [next(chunks).next, next(chunks).next] == [100, 200]
    with pytest.raises(SourceError, match="ended with code -11 behind flow 250"):
        list(chunks)


HANGING = """
import time
from connectors import capture_meter
capture_meter._PATIENCE_S = 1
capture_meter.Meter.take = lambda *_: time.sleep(99)
capture_meter.main()
"""


def test_a_meter_that_hangs_is_ended_by_the_system(tmp_path: Path) -> None:
    """An alarm that nobody sets again ends it, even in code that never comes back."""
    command = [sys.executable, "-c", HANGING, "1", "1", "1"]
    with write(tmp_path / "a.pcap", flows(3)).open("rb") as file:
        ended = subprocess.run(command, stdin=file, capture_output=True, timeout=30, check=False)

    assert ended.returncode == -signal.SIGALRM, ended.stderr


NOISY = """
import os
from connectors import capture_meter
take = capture_meter.Meter.take
capture_meter.Meter.take = lambda *them: (os.write(1, b"a warning of the library"), take(*them))[1]
capture_meter.main()
"""


def test_what_the_engine_prints_is_not_among_the_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries in C write to the standard output when they please."""
    rows, rejects = read_all(replaced(tmp_path, monkeypatch, NOISY))

    assert (len(rows), rejects) == (3, [])


def meters(folder: Path) -> list[Any]:
    """Return the programs of a folder that run as children of ours."""
    import psutil  # comes with nfstream

    return [child for child in psutil.Process().children() if str(folder) in " ".join(child.cmdline())]


@pytest.mark.parametrize("end", ["time.sleep(99)", "while True: sys.stdout.buffer.write(b'F' + bytes(4))"])
def test_leaving_early_ends_the_meter(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has enough leaves no process behind: none that hangs, none that waits to be read."""
    chunks = replaced(tmp_path, monkeypatch, SHORT.replace("END", end)).chunks(rows=100)
    next(chunks)
    assert meters(tmp_path)
    started_s = time.monotonic()
    chunks.close()

    assert not meters(tmp_path)
    assert time.monotonic() - started_s < 30
