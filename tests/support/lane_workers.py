"""Workers of any stage over a log in memory, which die when a test wants it, and a small panel."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
from conn_flows import conn_rows
from memory_log import MemoryLog, durable

from connectors.topics import Topics
from detectors.base import Detector, Sources
from detectors.calibration import Calibration
from pipeline.agents.attempts import Attempts
from pipeline.agents.carrier import Carrier
from pipeline.agents.lane import Out, Role
from pipeline.agents.meter import Meter
from pipeline.bundle import Bundle, write_bundle
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from pipeline.features.normaliser import Normaliser
from pipeline.history import Window, source_runs
from pipeline.metrics import Metrics

TOPICS = Topics("t")
CONN_SET = feature_set("conn")


class DiedError(Exception):
    """The process was killed."""


class LaneWorker:
    """A worker that dies before the n-th message it would publish."""

    def __init__(self, role: Role, log: MemoryLog, folder: Path, *, dies_at: int | None = None) -> None:
        self._role = role
        self._log = log
        self._left = dies_at
        self._attempts = Attempts(folder, limit=1000)
        self.carrier = Carrier(
            role,
            log,  # reads as KafkaReader does
            self._send,
            self._attempts,
            Meter(role.name, Metrics()),
            lambda _message: True,
            exit_process=_killed,
        )

    async def _send(self, out: Out) -> Awaitable[object]:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise DiedError
        self._log.append(out.topic, out.partition or 0, out.value, out.headers, out.key)
        return durable()

    def run(self, committed: int = 0) -> bool:
        """Carry everything from `committed` on; return whether the worker lived through it."""

        async def carry() -> None:
            for message in [m for m in self._log.messages(self._role.input_topic) if m.offset >= committed]:
                await self.carrier.carry(message)

        try:
            asyncio.run(carry())
        except DiedError:
            if self._left is None:
                raise  # nobody wanted that
            return False
        finally:
            self._attempts.close()
        return True


def _killed(code: int) -> None:
    raise DiedError(code)


def conn_bundle(folder: Path, name: str, detector: Detector, *, n: int = 600) -> Bundle:
    """Return a model of the first flows of `conn_flows`, written and read again."""
    table = offline_features(CONN_SET, [conn_rows(n)]).features.combine_chunks()
    (features,) = table.to_batches()
    half = n // 2
    normaliser = Normaliser.fit(
        CONN_SET, features.slice(0, half), kinds=detector.columns, scaling=detector.scaling
    )
    x = normaliser.matrix(features)
    held_out = features.slice(half)
    told = {}
    if detector.history_of == "source":
        told["sources"] = Sources(source_runs(features.slice(0, half)), source_runs(held_out))
    detector.fit(x[:half], held_out=x[half:], rng=np.random.default_rng(0), **told)
    return write_bundle(
        folder,
        name,
        detector=detector,
        normaliser=normaliser,
        calibration=Calibration.fit(Window.of(detector, normaliser, held_out).scores),
        calibration_rows=held_out,
        seed=0,
        data={},
        figures={},
    )
