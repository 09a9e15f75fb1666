"""Run several worker processes as children of one command: small sites and the demo."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

import structlog

from pipeline.settings import Settings

log = structlog.get_logger()

NO_RESTART = frozenset({0, 1, 2, 78})
"""Done, failed for a reason that a person must mend, wrong use, wrong configuration."""

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
HEALTHY_S = 60.0
"""A child that lived so long starts again at once when it dies."""
STOP_S = 20.0
"""What a child may take to end after SIGTERM before it is killed."""

WEIR = (sys.executable, "-m", "pipeline.cli.main")
"""The command as a child process of any of our own processes."""


STAGES = ("features", "detect", "alerts")


@dataclass(slots=True)
class Child:
    """One process that is kept running."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0

    def start(self, now: float) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches the parent alone."""
        env = {**os.environ, **self.env}
        self.process = subprocess.Popen(self.command, env=env, start_new_session=True)
        self.started = now

    def signal(self, number: int) -> None:
        """Send a signal if the process runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


class Supervisor:
    """Keep children running until told to stop, or until one ends for a reason that stays.

    Parameters
    ----------
    children : sequence of Child
        Processes to start.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._stopping = False

    def run(self) -> int:
        """Return the exit code: 0 after SIGTERM or SIGINT, else that of the child that gave up."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        code = 0
        try:
            for child in self._children:
                child.start(time.monotonic())
            while not self._stopping:
                ended = self._tend(time.monotonic())
                if ended is not None:
                    code = ended
                    break
                time.sleep(0.2)
        finally:
            self.stop()
        return code

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _tend(self, now: float) -> int | None:
        """Start again what died; return an exit code if that would not help."""
        for child in self._children:
            if child.process is None:
                if now >= child.due:
                    child.start(now)
                continue
            code = child.process.poll()
            if code is None:
                continue
            if code in NO_RESTART:
                log.error("child_ended", child=child.name, exit_code=code)
                return code or 1
            self._schedule(child, code, now)
        return None

    def _schedule(self, child: Child, code: int, now: float) -> None:
        lived_s = now - child.started
        child.failures = 0 if lived_s > HEALTHY_S else child.failures + 1
        wait_s = BACKOFF_S[min(child.failures, len(BACKOFF_S)) - 1] if child.failures else 0.0
        log.warning("child_died", child=child.name, exit_code=code, again_in_s=wait_s)
        child.process, child.due = None, now + wait_s

    def stop(self) -> None:
        """End all children: SIGTERM, and SIGKILL for those that do not listen."""
        for child in self._children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for child in self._children:
            if child.process is not None:
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.signal(signal.SIGKILL)
                    child.process.wait()


def worker_children(settings: Settings, begin: str, options: Sequence[str]) -> list[Child]:
    """Return one child a stage, each with a metrics port of its own, counted from the configured one."""
    children = []
    for index, stage in enumerate(STAGES):
        port = settings.worker.port
        mine = port + index if port else port
        command = [*WEIR, "worker", stage, *options, "--from", begin]
        shown = "null" if mine is None else str(mine)
        children.append(Child(stage, [*command, "--set", f"worker.port={shown}"]))
    return children
