"""End a worker that lives on without working: restarted, it will work again.

Faust workers are known to stay alive with no partitions, or with partitions that are never
fetched; a health check that only asks whether the process runs does not see it.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from connectors.errors import ConnectorError

log = structlog.get_logger()

Lags = Mapping[int, int]
"""Messages not yet committed, by partition."""


@dataclass(slots=True)
class Progress:
    """Decides from what is seen whether a worker is stuck; pure, time is an argument.

    A worker is stuck when, for `limit_s`, it has carried nothing and there was lag all the time on
    a partition of its own (or, while it has none, on any) whose committed offset did not move.
    """

    limit_s: float
    _beats: int = -1
    _since: float = 0.0
    _lags: dict[int, int] = field(default_factory=dict)

    def stuck(self, *, beats: int, lags: Lags, assigned: frozenset[int], now: float) -> bool:
        """Take a look at the worker; `beats` grows with each message that it carries."""
        watched = {p: lag for p, lag in lags.items() if lag > 0 and (not assigned or p in assigned)}
        committed_moved = any(watched.get(p, 0) < lag for p, lag in self._lags.items())
        if beats != self._beats or not watched or committed_moved:
            self._since = now
        self._beats, self._lags = beats, watched
        return now - self._since >= self.limit_s

    def blind(self, *, now: float) -> None:
        """Note that the worker could not be seen: such a time does not count."""
        self._since = now


class Watchdog(threading.Thread):
    """Looks at a worker now and then, from a thread of its own, and ends the process if it is stuck.

    Parameters
    ----------
    limit_s : float
        Time without progress that is too long.
    look : callable
        Returns (beats, lags, assigned); may raise ConnectorError while the broker is away: a worker
        cannot be blamed for that, its clients reconnect by themselves.
    exit_code : int
        Of the process, so that a supervisor starts it again.
    """

    def __init__(
        self, limit_s: float, look: Callable[[], tuple[int, Lags, frozenset[int]]], *, exit_code: int
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._progress = Progress(limit_s)
        self._every_s = max(1.0, limit_s / 6)
        self._look = look
        self._exit_code = exit_code
        self._stop = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stop.wait(self._every_s):
            try:
                beats, lags, assigned = self._look()
            except ConnectorError as error:
                log.warning("watchdog_blind", error=str(error))
                self._progress.blind(now=time.monotonic())
                continue
            if self._progress.stuck(beats=beats, lags=lags, assigned=assigned, now=time.monotonic()):
                log.error("worker_stuck", lags=dict(lags), assigned=sorted(assigned))
                os._exit(self._exit_code)

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
