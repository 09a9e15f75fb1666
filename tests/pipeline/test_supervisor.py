"""`weir worker all` keeps its children running, gives up where that would not help, and leaves none."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import supervisor
from pipeline.supervisor import STAGES, Child, Supervisor, counted_ports, worker_children

SLEEPS = "import time; time.sleep(60)"


def child(name: str, code: str, *args: str) -> Child:
    return Child(name, [sys.executable, "-c", code, *args])


@contextmanager
def running(*children: Child) -> Iterator[tuple[Supervisor, list[int]]]:
    """Run a supervisor in a thread; at the end it is told to stop, and its exit code is appended."""
    supervised, codes = Supervisor(children), list[int]()
    thread = threading.Thread(target=lambda: codes.append(supervised.run()))
    thread.start()
    try:
        yield supervised, codes
    finally:
        supervised.stop_soon()
        thread.join(30)


def wait_for(path: Path, n_lines: int, within_s: float = 20.0) -> list[str]:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if path.exists() and len(lines := path.read_text().split()) >= n_lines:
            return lines
        time.sleep(0.02)
    pytest.fail(f"{path.name} has not {n_lines} lines within {within_s:g} s")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


NOTES = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n');"


@pytest.mark.parametrize("code", [1, 75, 139])
def test_what_dies_is_started_again(tmp_path: Path, code: int) -> None:
    """A child that dies over a message or whose broker went away runs again, beside one that lives."""
    notes = tmp_path / "notes"
    dies = child("dies", f"{NOTES} os._exit({code})", str(notes))

    with running(dies, child("lives", SLEEPS)) as (_, codes):
        pids = wait_for(notes, 3)

    assert len(set(pids)) >= 3
    assert codes == [0]


@pytest.mark.parametrize(("code", "reported"), [(2, 2), (78, 78), (0, 1)])
def test_what_a_person_must_mend_ends_all(tmp_path: Path, code: int, reported: int) -> None:
    """A child that says that a restart will not help ends the command with its code, and the others."""
    notes = tmp_path / "notes"
    lives = child("lives", f"{NOTES} {SLEEPS}", str(notes))
    gives_up = child("gives up", f"import time; time.sleep(1.0); raise SystemExit({code})")

    supervised = Supervisor([lives, gives_up])

    assert supervised.run() == reported
    assert not is_alive(int(wait_for(notes, 1)[0]))


def test_a_stop_ends_all_children(tmp_path: Path) -> None:
    """None is left behind, also where one does not listen to SIGTERM."""
    supervisor_stop_s, supervisor.STOP_S = supervisor.STOP_S, 1.0
    notes = tmp_path / "notes"
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    try:
        with running(
            child("hears", f"{NOTES} {SLEEPS}", str(notes)),
            child("deaf", f"{deaf} {NOTES} {SLEEPS}", str(notes)),
        ) as (_, codes):
            pids = wait_for(notes, 2)
    finally:
        supervisor.STOP_S = supervisor_stop_s

    assert codes == [0]
    assert not any(is_alive(int(pid)) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a killed process")
def test_a_killed_supervisor_leaves_no_child(tmp_path: Path) -> None:
    """Children of `weir worker all` do not outlive a kill -9 of it."""
    pids = tmp_path / "pids"
    script = (
        "import sys; from pipeline.supervisor import Child, Supervisor; "
        "code = 'import os, sys, time; print(os.getpid(), file=open(sys.argv[1], \"a\")); time.sleep(60)'; "
        "Supervisor([Child('a', [sys.executable, '-c', code, sys.argv[1]])]).run()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(pids)])
    (pid,) = map(int, wait_for(pids, 1))

    parent.kill()
    parent.wait(10)

    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


def test_restarts_slow_down_and_recover() -> None:
    """A child that dies at once is waited for longer each time; one that lived long is not."""
    crashing = child("crashes", "")
    supervised = Supervisor([crashing])
    waits = []
    for _ in range(7):
        crashing.started = 100.0
        supervised._schedule(crashing, 75, 100.5)
        waits.append(crashing.due - 100.5)
    crashing.started = 100.0
    supervised._schedule(crashing, 75, 100.0 + supervisor.HEALTHY_S + 1)

    assert waits == [*supervisor.BACKOFF_S, supervisor.BACKOFF_S[-1], supervisor.BACKOFF_S[-1]]
    assert crashing.due == 100.0 + supervisor.HEALTHY_S + 1


def test_each_stage_has_its_own_port() -> None:
    """Three processes on a machine cannot share one port."""
    children = worker_children(STAGES, "latest", ["--prefix", "p"], counted_ports(9464, STAGES))

    assert [x.command[-1] for x in children] == [f"worker.port={9464 + i}" for i in range(3)]
    assert [x.command[4] for x in children] == ["features", "detect", "alerts"]
    assert counted_ports(None, STAGES) == [None] * 3
    assert counted_ports(0, STAGES) == [0] * 3
