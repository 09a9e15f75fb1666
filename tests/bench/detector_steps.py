"""One step of one detector in a process of its own, for bench_detectors: fit and save, or load and time.

It imports what a worker that scores imports of the detectors, and nothing of the stream.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from detectors import registry
from detectors.base import Detector, Matrix
from detectors.state import dump_state, load_state

BATCH, EXPLAINED, SLOW = 1_000, 100, 100
"""Rows of a call: to score, to explain, and to score where a detector is for evaluation only."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What one process measured that fits."""

    columns: int
    fit_s: float
    fit_cpu_s: float
    memory_mb: float


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one process measured that scores."""

    batch_ms: float  # of BATCH rows
    rows_s: float
    explained_s: float  # rows a second
    memory_mb: float


def peak_mb() -> float:
    """Return the most memory that this process has had resident."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def fit(folder: Path, name: str) -> Fitted:
    """Fit a detector on the rows in a folder, and leave its state there."""
    detector = registry.create(name)
    rows = {part: np.load(folder / f"{part}.npy") for part in ("normal", "held_out", "anomalies")}
    extra = {"anomalies": rows["anomalies"]} if "anomalies" in detector.uses else {}
    began, cpu = time.perf_counter(), time.process_time()
    detector.fit(rows["normal"], held_out=rows["held_out"], rng=np.random.default_rng(1), **extra)
    fit_s, fit_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    for file, content in dump_state(detector.state()).items():
        (folder / file).write_bytes(content)
    return Fitted(columns=detector.n_columns, fit_s=fit_s, fit_cpu_s=fit_cpu_s, memory_mb=peak_mb())


def score(folder: Path, name: str, *, span_s: float) -> Scored:
    """Load the state in a folder, and time it on the rows there."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".npy"}
    detector = registry.create(name).restore(load_state(files))
    rows = np.load(folder / "rows.npy")
    many = BATCH if detector.mode == "live" else SLOW
    score_s = typical_s(detector.score, rows, many, detector, span_s)
    explain_s = typical_s(detector.explain, rows, EXPLAINED, detector, span_s)
    return Scored(
        batch_ms=1e3 * score_s * BATCH / many,
        rows_s=many / score_s,
        explained_s=EXPLAINED / explain_s,
        memory_mb=peak_mb(),
    )


def typical_s(
    call: Callable[[Matrix], Any], rows: Matrix, many: int, detector: Detector, span_s: float
) -> float:
    """Return the median CPU time of a call with `many` rows and what they need of history before them."""
    whole = many + detector.history
    starts = range(0, len(rows) - whole + 1, many)
    took: list[float] = []
    call(rows[:whole])
    while sum(took) < span_s:
        at = starts[len(took) % len(starts)]
        began = time.thread_time()
        call(rows[at : at + whole])
        took.append(time.thread_time() - began)
    return statistics.median(took)


def main() -> None:
    """Take the step, and print its figures as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["fit", "score"])
    parser.add_argument("folder", type=Path, help="where the rows are, and the state")
    parser.add_argument("name", help="of the detector")
    parser.add_argument("--span-s", type=float, default=1.0, help="time that a figure is measured for")
    args = parser.parse_args()
    if args.step == "fit":
        found: Fitted | Scored = fit(args.folder, args.name)
    else:
        found = score(args.folder, args.name, span_s=args.span_s)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
