"""How fast a replay goes: rows are due when as much time has passed for us as in the record."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
"""Event times in microseconds, in the order of the source."""


class Pacer:
    """Says how many rows are due.

    A row earlier than one before it is due with that one: order is never changed.

    Parameters
    ----------
    speed : float
        Seconds of event time that pass in a second.
    clock : callable
        Monotonic seconds.

    Examples
    --------
    >>> now = 100.0
    >>> pacer = Pacer(10.0, clock=lambda: now)
    >>> times = np.array([0, 1_000_000, 2_000_000])
    >>> pacer.due(times)
    (1, 0.1)
    >>> now = 100.15
    >>> pacer.due(times)[0]
    2
    """

    def __init__(self, speed: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}, expected more than 0")
        self._speed = speed
        self._clock = clock
        self._begun: tuple[float, int] | None = None
        self._latest_us = 0  # greatest time among the rows that were due

    def due(self, times_us: Times) -> tuple[int, float]:
        """Return how many of the next rows are due, and the seconds until one more is.

        The seconds are 0 where all are due. Rows once called due must not be asked about again,
        or do no harm: they are due still.
        """
        if times_us.size == 0:
            return 0, 0.0
        now = self._clock()
        if self._begun is None:
            self._begun = now, int(times_us[0])
            self._latest_us = int(times_us[0])
        begun_s, begun_us = self._begun
        reached_us = begun_us + (now - begun_s) * self._speed * 1e6
        due_at = np.maximum.accumulate(np.maximum(times_us, self._latest_us))
        n_due = int(np.searchsorted(due_at, reached_us, side="right"))
        if n_due:
            self._latest_us = int(due_at[n_due - 1])
        if n_due == times_us.size:
            return n_due, 0.0
        return n_due, float(due_at[n_due] - reached_us) / 1e6 / self._speed
