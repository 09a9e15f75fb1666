"""Child processes that end with us, whatever way we end."""

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

# Linux only: asks the kernel to kill the child when we die, even by -9; then becomes the command.
# It runs in the child (not between fork and exec, which is unsafe beside other threads).
_TIED = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (AttributeError, OSError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` so that it is killed when the thread that starts it ends."""
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]


class Child:
    """A process in a session of its own: Ctrl-C reaches us first, and we stop it.

    Start it in a thread that lives on: Linux kills it when that thread ends.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._output: BinaryIO = log.open("ab")
        self._process = subprocess.Popen(
            tied(command),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,
        )
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ended(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        self._process.send_signal(number)

    def stop(self, patience_s: float = 5.0) -> None:
        """End it: ask, wait `patience_s`, then kill; at once if it has ended already."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._output.close()

    def log_tail(self, n_lines: int = 5) -> str:
        """Return the last lines that it wrote, as one line."""
        lines = self.log.read_text(errors="replace").splitlines()[-n_lines:]
        return " | ".join(line.strip() for line in lines if line.strip())
