"""Quickstart: one command from a growing log to explained alerts."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute as pc
import pytest
from zeek_log import append, zeek_lines

from connectors.source_synthetic import SyntheticSource

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(170)]

ROOT = Path(__file__).parents[2]
N_LEARNED, N_LATER = 2500, 200
SITE = {"seed": 3, "scale": 0.1}


class Run:
    """A quickstart, and what it has printed."""

    def __init__(self, folder: Path, log: Path) -> None:
        command = [sys.executable, "-m", "pipeline.cli.main", "quickstart", str(log)]
        options = ["--out", str(folder), "--flows", "2000", "--detector", "bn", "--budget", "20/h"]
        self._output = (folder.parent / f"{time.monotonic_ns()}.out").open("wb+")
        self.process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=self._output, stderr=subprocess.STDOUT
        )

    @property
    def printed(self) -> str:
        return Path(self._output.name).read_text(errors="replace")

    def until(self, done: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            assert self.process.poll() is None, f"ended before {what}:\n{self.printed}"
            assert time.monotonic() < deadline, f"not {what} within {within_s:g} s:\n{self.printed}"
            time.sleep(0.1)

    def interrupted(self) -> int:
        """Return the exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()


@contextmanager
def quickstart(folder: Path, log: Path) -> Iterator[Run]:
    run = Run(folder, log)
    try:
        yield run
    finally:
        run.close()


@contextmanager
def growing(log: Path, lines: Iterator[str]) -> Iterator[None]:
    """Keep appending lines, some at a time, until the block ends."""
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.05):
            append(log, itertools.islice(lines, 100))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def scan() -> tuple[list[str], str]:
    """Return the lines of a port scan on the same site, one day later, and who scans."""
    source = SyntheticSource(**SITE, attacks=("port_scan",))
    batches = [chunk.rows.filter(pc.equal(chunk.rows["label"], "port_scan")) for chunk in source.chunks()]
    return list(zeek_lines(batches, shift_s=86_400)), source.attacks()[0].source


def test_from_a_growing_log_to_an_explained_alert(tmp_path: Path) -> None:
    """It collects, trains, and tells of a scan with its reasons; run again, it watches at once."""
    log, folder = tmp_path / "conn.log", tmp_path / "quickstart"
    normal = zeek_lines(chunk.rows for chunk in SyntheticSource(**SITE, attacks=False).chunks())
    attack, scanner = scan()
    append(log, itertools.islice(normal, 200))
    with quickstart(folder, log) as run:
        with growing(log, itertools.islice(normal, N_LEARNED)):
            run.until(lambda: "collecting: " in run.printed, "collecting")
            run.until(lambda: "watching" in run.printed, "watching", 90)
        assert "flows that nobody labelled" in run.printed
        ready = "lane_restored"  # of the alerts worker, for the detections of the new panel
        run.until(lambda: (folder / "workers.log").read_text().count(ready) >= 2, "judging")
        before = len(run.printed)
        append(log, [*itertools.islice(normal, N_LATER), *attack])
        run.until(lambda: scanner in run.printed[before:], "telling of the scan")
        run.until(lambda: "expected" in run.printed[before:], "saying why")
        assert run.interrupted() == 0
        assert "the same command goes on" in run.printed

    with quickstart(folder, log) as again:
        again.until(lambda: "watching" in again.printed, "watching again")
        assert "collecting" not in again.printed
        assert again.interrupted() == 0
