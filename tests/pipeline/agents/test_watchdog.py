"""A worker that does nothing although there is work ends; any other lives."""

import subprocess
import sys
import textwrap
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pipeline.agents.watchdog import Progress

LIMIT_S = 30.0


@dataclass(frozen=True)
class Look:
    """What is seen of a worker, `after_s` seconds after the last look."""

    after_s: float
    carried: int  # messages since the last look
    lags: dict[int, int]
    assigned: frozenset[int]


def verdicts(looks: list[Look]) -> list[tuple[float, bool]]:
    """Return time and verdict of each look; the first one only says where the worker stands."""
    progress = Progress(LIMIT_S)
    now, beats, found = 100.0, 0, []
    for look in looks:
        now, beats = now + look.after_s, beats + look.carried
        found.append((now, progress.stuck(beats=beats, lags=look.lags, assigned=look.assigned, now=now)))
    return found


looks = st.builds(
    Look,
    st.floats(0.1, 40),
    st.integers(0, 2),
    st.dictionaries(st.integers(0, 3), st.integers(0, 5), max_size=4),
    st.frozensets(st.integers(0, 3), max_size=4),
)


def watched(look: Look) -> dict[int, int]:
    return {p: n for p, n in look.lags.items() if n and (not look.assigned or p in look.assigned)}


def is_excused(before: Look, look: Look) -> bool:
    """Whether between two looks the worker worked, or had nothing to do."""
    now = watched(look)
    return bool(look.carried) or not now or any(now.get(p, 0) < n for p, n in watched(before).items())


@given(st.lists(looks, min_size=1, max_size=12))
def test_stuck_is_lag_without_progress_for_the_whole_limit(seen: list[Look]) -> None:
    """Stuck exactly when every look of the last `limit` seconds found lag and no progress."""
    since = 0.0
    for index, (now, stuck) in enumerate(verdicts(seen)):
        if index == 0 or is_excused(seen[index - 1], seen[index]):
            since = now
        assert stuck == (now - since >= LIMIT_S)


def test_a_worker_without_lanes_is_stuck_while_work_waits() -> None:
    """Faust workers may live on with no partitions: then the lag of any lane counts."""
    idle = Look(10, 0, {0: 5}, frozenset())

    assert [stuck for _, stuck in verdicts([idle] * 4)] == [False, False, False, True]


def test_an_idle_worker_of_an_empty_lane_is_not_stuck() -> None:
    """The lag of lanes that others work on does not count for a worker that has lanes."""
    idle = Look(10, 0, {0: 5, 1: 0}, frozenset({1}))

    assert not any(stuck for _, stuck in verdicts([idle] * 9))


def test_a_time_in_which_nothing_was_seen_does_not_count() -> None:
    """After an outage of the broker a worker has the whole limit to begin again."""
    progress = Progress(LIMIT_S)
    waiting = {"beats": 3, "lags": {0: 5}, "assigned": frozenset({0})}
    progress.stuck(**waiting, now=0.0)
    progress.blind(now=300.0)

    found = [progress.stuck(**waiting, now=now) for now in (301.0, 329.0, 331.0)]

    assert found == [False, False, True]


def run(look: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a process under a watchdog with a limit of one second; it sleeps, then says that it is done."""
    code = f"""
        import time

        from connectors.errors import BrokerError
        from pipeline.agents.watchdog import Watchdog

        beats = 0

        def look():
            global beats
            {look}

        Watchdog(1.0, look, exit_code=75).start()
        time.sleep({seconds})
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_stuck_process_is_ended() -> None:
    """With the exit code that a supervisor starts again on, and a log line that says why."""
    done = run("return 1, {0: 7}, frozenset({0})", 30)

    assert done.returncode == 75
    assert "worker_stuck" in done.stdout + done.stderr
    assert "done" not in done.stdout.splitlines()


def test_a_working_process_lives() -> None:
    """Messages carried between looks are a sign of life, however large the lag."""
    done = run("beats += 1; return beats, {0: 7}, frozenset({0})", 4)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "done")


def test_a_broker_that_is_away_ends_nobody() -> None:
    """A look that fails is logged; the clients reconnect by themselves."""
    done = run("raise BrokerError('gone')", 4)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "done")
    assert "watchdog_blind" in done.stdout + done.stderr
