"""The processes of a round, each kept running as a supervisor does it."""

import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from connectors.child import Child

AGAIN = 75
"""Exit code that asks to be started again."""
GAVE_UP = 1
"""Exit code of a client library that gave up; a supervisor starts that again, too."""
PAUSE_S = 0.5
"""Between a death and the next start."""
_ENDED_WHEN_ASKED = (0, -signal.SIGTERM)
"""Cleanly, or so early that nothing had begun."""
STOP_S = 25.0
"""What a process may take to end after SIGTERM before it is killed: TimeoutStopSec of systemd."""


class Member:
    """One process that is started again whenever it dies for a reason that a restart can mend.

    Parameters
    ----------
    role : str
        features, detect, alerts or connector.
    name : str
        Of this process and its log.
    command : sequence of str
        To start it with.
    log : Path
        File for all that it prints.
    env : mapping
        Variables beyond ours.
    fatal : collection of int
        Exit codes besides that a fault of the round explains.
    """

    def __init__(
        self,
        role: str,
        name: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        explained: frozenset[int] = frozenset(),
    ) -> None:
        self.role, self.name, self.log = role, name, log
        self._command, self._env = command, env
        self._explained = explained | {AGAIN, -signal.SIGKILL}
        self._child: Child | None = None
        self._due = 0.0
        self._asked_at: float | None = None
        self.wanted = True  # otherwise it is not started again
        self.is_done = False  # a connector that has sent everything
        self.is_frozen = False
        self.rough_until = 0.0  # until then its clients may give up, which ends it with 1
        self.starts = 0
        self.codes: list[int] = []
        self.problems: list[str] = []

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, frozen or not."""
        return self._child is not None and self._child.ended() is None

    @property
    def has_lanes(self) -> bool:
        """Whether a worker's group has told it which lanes it works on."""
        return self.log.exists() and "lanes_assigned" in self.log.read_text(errors="replace")

    def tend(self, now: float) -> None:
        """Start it if it is due; take note of its end."""
        if self._child is None:
            if self.wanted and not self.is_done and now >= self._due:
                self._start()
        elif (code := self._child.ended()) is not None:
            self._ended(code, now)
        elif self._asked_at is not None and now - self._asked_at > STOP_S:
            self.kill()

    def _start(self) -> None:
        self._child = Child(self._command, self.log, self._env)
        self.starts += 1

    def _ended(self, code: int, now: float) -> None:
        assert self._child is not None
        self._child.stop()
        asked, self._asked_at, self._child = self._asked_at is not None, None, None
        self.is_frozen = False
        self.codes.append(code)
        self._due = now + PAUSE_S
        if self.role == "connector":
            self.is_done = code == 0
        elif not self._is_explained(code, asked=asked, now=now):
            self.problems.append(f"{self.name} ended with {code}: {self.last_words()}")

    def _is_explained(self, code: int, *, asked: bool, now: float) -> bool:
        gave_up = code == GAVE_UP and now < self.rough_until
        return code in self._explained or gave_up or (asked and code in _ENDED_WHEN_ASKED)

    def kill(self) -> None:
        """Kill it with -9."""
        self._signal(signal.SIGKILL)

    def ask(self) -> None:
        """Ask it to end."""
        if self.is_alive:
            self._asked_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it in its tracks."""
        self.is_frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.is_frozen = False
        self._signal(signal.SIGCONT)

    def fill_disk(self, *, full: bool) -> None:
        """Have every write to a file fail, or succeed again."""
        if self._child is not None and self.is_alive:
            _, hard = resource.prlimit(self._child.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(self._child.pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)

    def end(self) -> None:
        """End it for good."""
        self.wanted = False
        self.kill()
        if self._child is not None:
            self._child.stop()

    def last_words(self, lines: int = 3) -> str:
        """Return the end of its log."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(line.strip()[:300] for line in text[-lines:])


def pick(members: Sequence[Member], at: float, wanted: Callable[[Member], bool]) -> Member | None:
    """Return one of the members that are `wanted`, by a number in [0, 1)."""
    found = [member for member in members if member.is_alive and wanted(member)]
    return found[int(at * len(found))] if found else None
