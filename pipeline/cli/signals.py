"""Stopping in order on SIGTERM and Ctrl-C; pausing on Ctrl-Z."""

import os
import signal
import threading
import time
from types import FrameType


def stop_on_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt as Ctrl-C does, so that what is open is closed in order."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def stop_event() -> threading.Event:
    """Return an event that the first SIGTERM or Ctrl-C sets; the second one interrupts."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            _interrupt(number, frame)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop


class PausingClock:
    """Monotonic seconds in which this process was not paused by Ctrl-Z (SIGTSTP)."""

    def __init__(self) -> None:
        self._paused_s = 0.0
        signal.signal(signal.SIGTSTP, self._pause)

    def __call__(self) -> float:
        """Return the seconds."""
        return time.monotonic() - self._paused_s

    def _pause(self, _number: int, _frame: FrameType | None) -> None:
        begun = time.monotonic()
        os.kill(os.getpid(), signal.SIGSTOP)  # until SIGCONT: `fg`, or `kill -CONT`
        self._paused_s += time.monotonic() - begun
