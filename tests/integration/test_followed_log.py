"""A followed Zeek log whose reader is killed: the same flow ids and the same alert bytes."""

import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from accounts import published_flows
from cases import MakeStream
from stream import ROOT, STAGES, Stream, WorkerProcess, killed, stopped
from zeek_log import header, zeek_columns

from connectors.kinds import open_file
from connectors.sources import open_source
from pipeline.feed import feed

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(240)]

N = 1200
OPEN = {"grouping": {"enabled": False}}
SENSOR = "edge"
SEED = 3
APPENDED_S = 0.02  # between two lines
KILLS = 5
ROTATED_AT = (400, 800)  # lines


@pytest.fixture(scope="module")
def log_lines(data_dir: Path) -> list[str]:
    """Return the first flows of UNSW-NB15 as lines of a conn.log."""
    rows = next(iter(open_source("unsw-conn", data_dir).chunks())).rows.slice(0, N)
    return list(zeek_columns([rows]))


def files(log_lines: list[str]) -> list[str]:
    """Return the contents of the three files that the log is rotated through."""
    borders = [0, *ROTATED_AT, N]
    return [
        header(f"2026-01-05-0{i}-00-00") + "".join(log_lines[begin:end])
        for i, (begin, end) in enumerate(pairwise(borders))
    ]


def calm(make_stream: MakeStream, folder: Path, log_lines: list[str]) -> dict[str, bytes]:
    """Return the alerts of the same files replayed one after another."""
    stream = make_stream("unsw-conn", **OPEN)
    stream.start(*STAGES)
    for i, content in enumerate(files(log_lines)):
        path = folder / f"whole-{i}.log"
        path.write_text(content)
        feed(stream.settings, open_file(path, sensor=SENSOR))
    return stream.settle().alerts


def follow(stream: Stream, log: Path) -> WorkerProcess:
    """Start a reader of the log."""
    command = [sys.executable, "-m", "pipeline.cli.main", "ingest", str(log), "--sensor", SENSOR]
    command += ["-c", str(stream.config), "--port", "0"]
    reader = WorkerProcess(
        "ingest", command, stream.folder / f"ingest-{len(stream.workers)}.log", {"PYTHONPATH": str(ROOT)}
    )
    stream.workers.append(reader)
    return reader


def write_log(log: Path, contents: list[str]) -> None:
    """Write the files line by line, and rotate the log after each but the last."""
    for i, content in enumerate(contents):
        with log.open("w") as file:
            for line in content.splitlines(keepends=True):
                # In two pieces, as a buffer may be flushed anywhere.
                file.write(line[:20])
                file.flush()
                file.write(line[20:])
                file.flush()
                time.sleep(APPENDED_S)
        if i < len(contents) - 1:
            log.rename(log.with_name(f"conn.{i}.log"))


def until(done: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def n_sent(stream: Stream) -> int:
    stream.accounts.look()
    return stream.accounts.balance[0]


def test_a_killed_reader_changes_nothing(
    make_stream: MakeStream, log_lines: list[str], tmp_path: Path
) -> None:
    """Killed again and again while the log grows and rotates: every flow once, the bytes of a calm replay."""
    expected = calm(make_stream, tmp_path, log_lines)
    stream = make_stream("unsw-conn", **OPEN)
    stream.start(*STAGES)
    log, rng = tmp_path / "conn.log", random.Random(SEED)
    writing = threading.Thread(target=write_log, args=(log, files(log_lines)))
    writing.start()
    try:
        kills_at = []
        while len(kills_at) < KILLS and n_sent(stream) < N:
            reader = follow(stream, log)
            wanted = min(n_sent(stream) + rng.randrange(1, 60), N)
            until(lambda: n_sent(stream) >= wanted)  # noqa: B023 - done before it changes
            killed(reader)
            kills_at.append(n_sent(stream))
    finally:
        writing.join()
    assert kills_at[0] < N, "the kills came too late"
    reader = follow(stream, log)
    until(lambda: n_sent(stream) >= N and "metrics on" in reader.log_tail())  # else no handler is set yet
    assert stopped(reader, signal.SIGTERM) == 0
    books = stream.settle(within_s=90)

    assert stream.accounts.balance == (N, N, 0)
    sent = [flow_id for ids in books.sent.values() for flow_id in ids]
    assert sorted(sent) == sorted(line.split("\t")[1] for line in log_lines)
    assert books.alerts == expected
    assert len(published_flows(books)) == N
