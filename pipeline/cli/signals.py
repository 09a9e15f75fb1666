"""Stopping on SIGTERM as on Ctrl-C."""

import signal
from types import FrameType


def stop_on_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt, so that what is open is closed in order."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
