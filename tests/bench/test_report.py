"""The page holds what the benchmarks have measured, and every benchmark says how it is run."""

import argparse
import os
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from report import Result, page, read, write
from rig import Aim, Plot, Report, Running, Table

FOLDER = Path(__file__).parent

REPORT = Report(
    name="weirs",
    title="Weirs, old & new",
    protocol="Water over a weir.",
    tables=[Table(title="Flow", columns=["weir", "l/s"], rows=[["old", 1234.5], ["new", None]], note="Dry.")],
    plots=[Plot(title="Flow", x_label="width", y_label="l/s", lines={"old": ([1, 2], [3, 4])}, log_x=True)],
    aims=[
        Aim(what="flow", wanted=1000.0, measured=1234.5, unit="l/s"),
        Aim(what="leak", wanted=0.5, measured=2.0, unit="l/s", at_most=True),
    ],
)
RESULT = Result(REPORT, {"machine": "a hill"}, short=True)

AIMS = """\
1 of 2 are met.

| aim | wanted | measured | |
|---|---|---|---|
| [flow](#weirs-old--new) | at least 1,000 l/s | 1,234 l/s | met |
| [leak](#weirs-old--new) | at most 0.5 l/s | 2 l/s | **missed** (400 % of it) |
"""

SECTION = """\
## Weirs, old & new

Water over a weir.

The short form: few data, few repeats.

- machine: a hill

**Flow**

| weir | l/s |
|---|---|
| old | 1,234 |
| new |  |

Dry.

![Flow](performance/weirs-1.svg)
"""


def test_the_page_says_what_is_met_and_what_is_missed() -> None:
    """Every aim is a line of the first table, and leads to its section."""
    assert AIMS in page([RESULT], "performance")


def test_a_section_shows_protocol_environment_tables_and_plots() -> None:
    """All that a report holds is on the page."""
    assert page([RESULT], "performance").endswith(SECTION)


def test_a_report_is_read_as_it_was_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`finish` leaves what `read` reads, and prints whether aims are met."""
    REPORT.finish(argparse.Namespace(results=tmp_path, short=True))

    found = read(tmp_path / "weirs.json")

    assert page([Result(found.report, {"machine": "a hill"}, found.short)], "p") == page([RESULT], "p")
    assert "Python" in found.environment["software"]
    told = capsys.readouterr().out
    assert "met    flow: 1,234 l/s, wanted at least 1,000" in told
    assert "MISSED leak: 2 l/s, wanted at most 0.5" in told


def test_pages_and_plots_follow_from_the_figures_alone(tmp_path: Path) -> None:
    """Writing twice gives the same bytes; a plot shows its lines and axes."""
    REPORT.finish(argparse.Namespace(results=tmp_path / "performance", short=True))
    written = []
    for _ in range(2):
        write(tmp_path / "performance", tmp_path / "performance.md")
        files = [tmp_path / "performance.md", tmp_path / "performance" / "weirs-1.svg"]
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
    assert b"(performance/weirs-1.svg)" in written[0][0]
    texts = {element.text for element in ET.fromstring(written[0][1]).iter()}
    assert {"Flow", "width", "l/s", "old"} <= texts


@pytest.mark.parametrize("script", sorted(FOLDER.glob("bench_*.py")), ids=lambda path: path.stem)
def test_every_benchmark_explains_itself(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` names the options that `make bench` and `make performance` give."""
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--short" in text
    assert "--results" in text


def test_a_dead_worker_is_not_waited_for() -> None:
    """A worker that has ended is told at once, with its exit code."""
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait(30)
        with pytest.raises(RuntimeError, match="has ended with 3"):
            Running(process, 1).wait_ready()


def test_cpu_and_memory_are_those_of_the_process() -> None:
    """A process that has worked has spent more than one that slept, as the system counts it."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as idle:
        running = Running(idle, 1)
        own_s, peak_mb = running.spent_s, running.peak_mb
        idle.kill()
    assert own_s < sum(os.times()[:2])
    assert 0 < peak_mb < 200
