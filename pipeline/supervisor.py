"""Run several worker processes as children of one command: small sites and the demo."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from connectors.child import tied
from pipeline.exit_codes import FAILED, NO_RESTART

log = structlog.get_logger()

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

    def start(self, now: float, output: IO[bytes] | None) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches the parent alone.

        It dies with us, even by -9: nobody else would stop it, and its port would stay in use.
        """
        env = {**os.environ, **self.env}
        self.process = subprocess.Popen(
            tied(self.command), env=env, stdout=output, stderr=output, start_new_session=True
        )
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
    log : Path, optional
        File for what they print; where left out it goes where ours goes.
    """

    def __init__(self, children: Sequence[Child], *, log: Path | None = None) -> None:
        self._children = children
        self._log = log
        self._stopping = threading.Event()
        self.ended: int | None = None
        """Exit code of the child that gave up, if one did."""

    def run(self) -> int:
        """Return the exit code: 0 when told to stop, else that of the child that gave up."""
        with self._log.open("ab") if self._log else nullcontext() as output:
            try:
                for child in self._children:
                    child.start(time.monotonic(), output)
                while self.ended is None and not self._stopping.wait(0.2):
                    self.ended = self._tend(time.monotonic(), output)
            finally:
                self._stop()
        return self.ended or 0

    def stop_soon(self) -> None:
        """End `run`, from a signal handler or another thread."""
        self._stopping.set()

    def _tend(self, now: float, output: IO[bytes] | None) -> int | None:
        """Start again what died; return an exit code if that would not help."""
        for child in self._children:
            if child.process is None:
                if now >= child.due:
                    child.start(now, output)
                continue
            code = child.process.poll()
            if code is None:
                continue
            if code in NO_RESTART:
                log.error("child_ended", child=child.name, exit_code=code)
                return code or FAILED
            self._schedule(child, code, now)
        return None

    def _schedule(self, child: Child, code: int, now: float) -> None:
        lived_s = now - child.started
        child.failures = 0 if lived_s > HEALTHY_S else child.failures + 1
        wait_s = BACKOFF_S[min(child.failures, len(BACKOFF_S)) - 1] if child.failures else 0.0
        log.warning("child_died", child=child.name, exit_code=code, again_in_s=wait_s)
        child.process, child.due = None, now + wait_s

    def _stop(self) -> None:
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


def worker_children(
    stages: Sequence[str], begin: str, options: Sequence[str], ports: Sequence[int | None]
) -> list[Child]:
    """Return one child a stage, each with a metrics port of its own."""
    return [
        Child(
            stage, [*WEIR, "worker", stage, *options, "--from", begin, "--set", f"worker.port={_shown(port)}"]
        )
        for stage, port in zip(stages, ports, strict=True)
    ]


def counted_ports(port: int | None, stages: Sequence[str]) -> list[int | None]:
    """Return a metrics port a stage: the configured one and those after it, or all free ones, or none."""
    return [port + index if port else port for index in range(len(stages))]


def _shown(port: int | None) -> str:
    return "null" if port is None else str(port)
