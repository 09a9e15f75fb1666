"""Processes of a round are kept running as a supervisor does it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from members import Member, pick

MakeMember = Callable[..., Member]


@pytest.fixture
def make(tmp_path: Path) -> MakeMember:
    def member(script: str, role: str = "detect") -> Member:
        return Member(role, role, [sys.executable, "-c", script], tmp_path / f"{role}.log", {})

    return member


def tended(member: Member, done: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, member.last_words()
        member.tend(time.monotonic())
        time.sleep(0.02)


def running(member: Member) -> Member:
    tended(member, lambda: "up" in member.last_words())
    return member


WAITS = "import time; print('up', flush=True); time.sleep(60)"


def test_what_asks_to_be_started_again_is(make: MakeMember) -> None:
    """Exit code 75 is no problem."""
    member = make("import sys; sys.exit(75)")
    tended(member, lambda: member.starts == 3)
    member.end()
    assert member.problems == []


@pytest.mark.parametrize("code", [0, 1, 78])
def test_any_other_end_is_a_problem(make: MakeMember, code: int) -> None:
    """A supervisor would give up, or a worker has ended for no reason."""
    member = make(f"import sys; print('why'); sys.exit({code})")
    tended(member, lambda: bool(member.codes))
    member.end()
    assert member.problems == [f"detect ended with {code}: why"]


def test_what_is_asked_to_end_may_do_so(make: MakeMember) -> None:
    """And is started again, as long as it is wanted."""
    member = running(make(WAITS))
    member.ask()
    tended(member, lambda: member.starts == 2)
    member.end()
    assert member.problems == []


def test_a_connector_that_ends_well_is_done(make: MakeMember) -> None:
    """Whatever else ends it, it is run again."""
    member = make("print('sent')", role="connector")
    tended(member, lambda: member.is_done)
    member.tend(time.monotonic() + 60)
    assert (member.starts, member.problems) == (1, [])


def test_a_frozen_process_does_nothing_until_it_thaws(make: MakeMember) -> None:
    """And is not picked to be frozen again."""
    member = running(make("import time\nwhile True: print(time.time(), 'up', flush=True); time.sleep(0.01)"))
    member.freeze()
    time.sleep(0.05)
    size = member.log.stat().st_size
    time.sleep(0.1)
    assert member.log.stat().st_size == size
    assert pick([member], 0.5, lambda m: not m.is_frozen) is None
    member.thaw()
    tended(member, lambda: member.log.stat().st_size > size)
    member.end()


def test_a_full_disk_fails_every_write(make: MakeMember, tmp_path: Path) -> None:
    """Of a process that runs, until there is room again."""
    path = tmp_path / "written"
    script = f"""
        import time
        print("up", flush=True)
        while True:
            try:
                open({str(path)!r}, "w").write("x")
            except OSError as error:
                open("/dev/null", "w").write(str(error))
            time.sleep(0.01)
    """
    member = running(make("\n".join(line[8:] for line in script.splitlines())))
    tended(member, path.exists)
    member.fill_disk(full=True)
    time.sleep(0.05)
    path.unlink()
    time.sleep(0.1)
    assert path.read_bytes() == b"" if path.exists() else True
    member.fill_disk(full=False)
    tended(member, lambda: path.exists() and path.read_bytes() == b"x")
    member.end()
