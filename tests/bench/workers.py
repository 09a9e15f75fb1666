"""Workers under load: a model that takes the load for normal, the workers of a mode, and what they use.

A mode says how many processes a flow passes: "two hops" (features, detect, alerts) or "inline"
(detect with the windows in the same process, alerts).
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from load import Behind, Load, Room
from rig import Running, settings_for, wait, worker

from connectors.kafka_settings import KafkaSettings
from connectors.topics import Topics
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import LaneFeatures
from pipeline.settings import Settings
from pipeline.settings_sections import FeatureSettings
from training.datasets import Dataset
from training.train import Plan, fit, write

MODES = {"two hops": ("features", "detect", "alerts"), "inline": ("detect", "alerts")}
WINDOW_S = 60
CAP = 1 << 20
"""Most rows of a window of `conn`, as its specification says."""
_FIT_ROWS = 40_000
_SAMPLE_S = 0.25


def modes() -> list[str]:
    """Return the modes that this build has."""
    return [name for name in MODES if name != "inline" or "inline" in FeatureSettings.model_fields]


def full_window(load: Load) -> int:
    """Return how many rows of a lane its widest window holds when it is full."""
    return min(CAP, round(WINDOW_S * load.rate / load.lanes))


def train_on(folder: Path, load: Load, name: str = "bench", *, pause_s: float = 0.0) -> None:
    """Train `name` in `FOLDER/models` on lane 0 of a load, windows filling and full.

    Its false alarms on other flows of the load are then near alpha, and stay so where it goes on after a
    pause of up to `pause_s` with windows that are full of old flows.
    """
    rows = _sampled(load, _FIT_ROWS, pause_s)
    dataset = Dataset(
        name="load",
        feature_set=feature_set("conn"),
        features=rows,
        labels=np.full(rows.num_rows, "normal", dtype=np.object_),
        times=np.arange(rows.num_rows, dtype=np.int64),
        test=None,
        order="none",
        gap_s=0.0,
        fingerprint=load.source_id,
        notes=("Random flows of a benchmark.",),
        n_rejected=0,
    )
    write(fit(dataset, Plan(max_rows=20_000)), dataset, folder / "models", name, figures=None)


def _sampled(load: Load, n_rows: int, pause_s: float) -> pa.RecordBatch:
    """Return features of rows drawn evenly from the time in which windows fill and a while after."""
    lane, rng = LaneFeatures(feature_set("conn")), np.random.default_rng(load.seed)
    n_full = max(30, full_window(load) // load.rows)
    n_messages = n_full + max(20, n_full // 2)
    each = min(load.rows, -(-n_rows // n_messages))
    later = replace(load, start_us=load.start_us + round(pause_s * 1e6))
    kept: list[pa.RecordBatch] = []
    for number in range(n_messages):
        flows = load if number < n_full else later
        rows = lane.process(flows.batch(number * load.lanes))
        kept.append(rows.take(pa.array(np.sort(rng.choice(load.rows, each, replace=False)))))
    joined: pa.RecordBatch = pa.Table.from_batches(kept).combine_chunks().to_batches()[0]
    return joined


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A prefix with its workers running."""

    settings: Settings
    workers: dict[str, Running]  # stage -> process
    behind: Behind

    @property
    def topics(self) -> Topics:
        """Names of its topics."""
        return Topics(self.settings.topics.prefix)

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of each stage since it began."""
        return {stage: running.spent_s for stage, running in self.workers.items()}

    def room(self, ahead: int, answered: Callable[[], int] | None = None) -> Room:
        """Return what makes a writer stay at most `ahead` messages before the workers, while they live."""
        return Room(self.behind, ahead, answered or self.answered)

    def wait_answered(self, n_messages: int) -> None:
        """Return when so many messages have their verdicts."""
        wait(lambda: self.answered() >= n_messages, f"{n_messages} verdicts did not come", every_s=0.02)

    def answered(self) -> int:
        """Return how many messages have their verdicts, if all workers live."""
        for stage, running in self.workers.items():
            code = running.process.poll()
            if code is not None:
                raise RuntimeError(f"worker {stage} ended with exit code {code}; see its log above")
        return self.behind.answered()


@contextmanager
def stream(
    kafka: KafkaSettings, folder: Path, prefix: str, mode: str, **sections: dict[str, Any]
) -> Iterator[Stream]:
    """Run the workers of a mode over a fresh prefix; they are ready, and stopped at the end."""
    if mode == "inline":
        sections["features"] = {**sections.get("features", {}), "inline": True}
    settings = settings_for(kafka, folder, prefix, config="", **sections)
    with ExitStack() as stack:
        running = {stage: stack.enter_context(worker(stage, folder, prefix)) for stage in MODES[mode]}
        for process in running.values():
            process.wait_ready()
        behind = Behind(kafka, way(settings, mode))
        stack.callback(behind.close)
        yield Stream(settings=settings, workers=running, behind=behind)


def way(settings: Settings, mode: str) -> list[str]:
    """Return the topics from flows to detections."""
    topics = Topics(settings.topics.prefix)
    hop = [topics.features(settings.features.feature_set)] if mode == "two hops" else []
    return [topics.flows, *hop, topics.detections(settings.panel.name)]


def resident_mb(pid: int) -> float:
    """Return the memory of a process, without asking it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Memory:
    """Resident memory of processes over the work done, sampled by a thread."""

    pids: dict[str, int]
    done: Callable[[], float]  # flows answered so far
    at: list[float] = field(default_factory=list)
    mb: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def sampled(self) -> Iterator["Memory"]:
        """Sample until the block ends."""
        stop = threading.Event()
        thread = threading.Thread(target=self._sample, args=(stop,))
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    def _sample(self, stop: threading.Event) -> None:
        while not stop.wait(_SAMPLE_S):
            self.at.append(self.done())
            for stage, pid in self.pids.items():
                self.mb.setdefault(stage, []).append(resident_mb(pid))

    def peak(self, stage: str) -> float:
        """Return the most memory that was seen."""
        return max(self.mb.get(stage, [0.0]))

    def slope(self, stage: str) -> float:
        """Return the growth over the last half of the work, MB a million flows; 0 with too few samples."""
        at, mb = np.array(self.at), np.array(self.mb.get(stage, []))
        late = at >= at[-1] / 2 if at.size else np.zeros(0, dtype=np.bool_)
        if np.unique(at[late]).size < 5:
            return 0.0
        return float(np.polyfit(at[late] / 1e6, mb[late], 1)[0])


class Progress:
    """Prints how far a long run is, about every ten seconds."""

    def __init__(self, what: str, n_flows: int) -> None:
        self._what, self._n = what, n_flows
        self._begun = self._told = time.monotonic()

    def __call__(self, n_done: int) -> None:
        """Tell it, if it is time."""
        now = time.monotonic()
        if now - self._told >= 10.0 and n_done:
            self._told = now
            left = (self._n - n_done) * (now - self._begun) / n_done
            print(f"  {self._what}: {n_done:,} of {self._n:,} flows, {left:,.0f} s left", flush=True)


def percentiles(values: Sequence[float] | npt.NDArray[np.float64], *which: float) -> list[float]:
    """Return percentiles of measured values."""
    return [float(value) for value in np.percentile(np.asarray(values, dtype=np.float64), which)]
