"""Stopping in order on SIGTERM and Ctrl-C."""

import signal
import threading
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
