"""Quickstart: mistakes are told before anything starts, and progress is said in flows and time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import quickstart
from pipeline.cli import main
from pipeline.quickstart import LEAST_FLOWS, Wanted, as_options, overrides


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    return Wanted(
        source="conn.log", ingest=(), folder=tmp_path, flows=10_000, seconds=3600.0, train=(), options=()
    )


@pytest.fixture
def progress(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[bool, str]]:
    """Return what takes flows and seconds since the start, and tells if that is enough, and what was said."""
    now = [0.0]
    monkeypatch.setattr(quickstart.time, "monotonic", lambda: now[0])
    said: list[str] = []
    made = quickstart._Progress(wanted, Console(quiet=True), said.append)

    def at(n_flows: int, seconds: float, span_s: float = 3600.0) -> tuple[bool, str]:
        now[0] = seconds
        return made.enough(n_flows, span_s), said[-1]

    return at


def test_what_is_left_follows_from_the_rate(progress: Callable[..., tuple[bool, str]]) -> None:
    """Flows of an earlier run count, but not for the rate; what comes first ends it."""
    assert progress(1000, 0.0) == (False, "collecting: 1,000 of 10,000 flows, about 1 h left")
    assert progress(4000, 60.0) == (False, "collecting: 4,000 of 10,000 flows, about 2 min left")
    assert progress(4001, 3590.0) == (False, "collecting: 4,001 of 10,000 flows, about 10 s left")
    assert progress(10_000, 3595.0)[0]


def test_time_alone_is_not_enough(progress: Callable[..., tuple[bool, str]]) -> None:
    """After the time it is enough as soon as there are flows to learn from."""
    enough, said = progress(LEAST_FLOWS - 1, 4000.0)

    assert (enough, said) == (
        False,
        "collecting: 999 of 10,000 flows; the time is over, but 1,000 are needed",
    )
    assert progress(LEAST_FLOWS, 4001.0)[0]


def test_many_flows_of_a_few_seconds_are_not_enough(progress: Callable[..., tuple[bool, str]]) -> None:
    """A busy network has the flows before there is a time to split; it waits for ten minutes of them."""
    progress(0, 0.0, 0.0)

    assert progress(50_000, 20.0, 20.0) == (
        False,
        "collecting: 50,000 of 10,000 flows of 20 s; those of 10 min are needed",
    )
    assert progress(900_000, 600.0, 600.0)[0]


def test_settings_are_handed_to_children_as_options(tmp_path: Path) -> None:
    options = as_options(overrides(tmp_path, 2000, None, None))

    assert list(options[::2]) == ["--set"] * (len(options) // 2)
    assert "panel.collect_flows=2000" in options
    assert not any("kafka" in option for option in options)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("{log}", "--detector", "bea"), 1, "did you mean beaa?"),
        (("{log}", "--budget", "5"), 2, "expected a number above 0 /s, /min, /h or /d, as 5/h"),
        (("{folder}/nowhere.log",), 2, "no such file; expected a log that is written"),
        (("{log}", "--out", "{log}/inside"), 1, "cannot be written"),
        (("{log}", "--flows", "10"), 2, "10 is not in the range x>=1000"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], args: tuple[str, ...], code: int, words: str
) -> None:
    log = tmp_path / "conn.log"
    log.touch()
    given = [part.format(log=log, folder=tmp_path) for part in ("--out", "{folder}/out", *args)]

    assert main.run(["quickstart", *given]) == code
    assert words in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
