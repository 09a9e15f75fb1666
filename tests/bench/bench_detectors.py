"""Time and memory of every detector on NSL-KDD: `python tests/bench/bench_detectors.py --help`."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rig import Aim, Report, Table, arguments

from connectors.sources import DATA_VARIABLE
from detectors import registry
from detectors.base import Detector, Matrix
from detectors.state import dump_state, load_state
from pipeline.features.normaliser import Normaliser
from training.datasets import Dataset, load_dataset

BATCH, EXPLAINED, SLOW = 1_000, 100, 100
"""Rows of a call: to score, to explain, and to score where a detector is for evaluation only."""

FIT_S, LIVE_MS = 600.0, 200.0
SHORT_ROWS = 3_000
SHORT = ("autoencoder", "beaa", "bn", "knn", "robust_z")
PARTS = ("normal", "held_out", "anomalies", "rows")

PLAN = """Every detector with its default parameters, on {data}: fitted on {fit:,} normal rows of the
training part ({held_out:,} normal rows of the test part are held out; for figures of quality they would be
rows of the training part), with {anomalies:,} attacks of the training part for those that use any; then it
scores and explains rows of the test part, attacks among them.

A process fits and saves, another one loads and scores, as a worker does, so that times and memory are the
detector's own; one BLAS thread. Memory is the most that was resident, with the interpreter, the libraries
and the matrix of the rows. Scoring is in batches of {batch:,} rows ({slow:,} where a detector is for
evaluation only), explaining in batches of {explained:,}; each figure is the median of the calls in at least
{span_s:g} s, after one that warms up."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What one process measured that fits."""

    columns: int
    fit_s: float
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
    rows = {part: np.load(folder / f"{part}.npy") for part in PARTS[:3]}
    extra = {"anomalies": rows["anomalies"]} if "anomalies" in detector.uses else {}
    began = time.perf_counter()
    detector.fit(rows["normal"], held_out=rows["held_out"], rng=np.random.default_rng(1), **extra)
    fit_s = time.perf_counter() - began
    for file, content in dump_state(detector.state()).items():
        (folder / file).write_bytes(content)
    return Fitted(columns=detector.n_columns, fit_s=fit_s, memory_mb=peak_mb())


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
    """Return the median time of a call with `many` rows and what they need of history before them."""
    whole = many + detector.history
    starts = range(0, len(rows) - whole + 1, many)
    took: list[float] = []
    while not took or sum(took) < span_s:
        at = starts[len(took) % len(starts)]
        if not took:
            call(rows[at : at + whole])
        began = time.perf_counter()
        call(rows[at : at + whole])
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def nsl_kdd(*, short: bool) -> Dataset:
    """Return NSL-KDD, the first records of each part alone in the short form."""
    return load_dataset("nsl-kdd", limit=2 * SHORT_ROWS if short else None)


def prepare(folder: Path, detector: type[Detector], data: Dataset) -> dict[str, int]:
    """Leave rows as a detector takes them in a folder; return how many there are of each part."""
    test = np.zeros(len(data.labels), dtype=bool) if data.test is None else data.test
    chosen = {
        "normal": data.normal & ~test,
        "held_out": data.normal & test,
        "anomalies": ~data.normal & ~test,
        "rows": test,
    }
    taken = {part: data.take(np.flatnonzero(mask)) for part, mask in chosen.items()}
    taken["anomalies"] = taken["anomalies"].slice(0, BATCH)
    normaliser = Normaliser.fit(
        data.feature_set, taken["normal"], kinds=detector.columns, scaling=detector.scaling
    )
    for part, rows in taken.items():
        np.save(folder / f"{part}.npy", normaliser.matrix(rows))
    return {part: rows.num_rows for part, rows in taken.items()}


def in_a_process(step: str, folder: Path, name: str, *, span_s: float) -> dict[str, Any]:
    """Return what another process measured of one step."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--span-s", str(span_s)]
    done = subprocess.run([*command, name], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A detector's line in the table."""

    name: str
    mode: str
    fitted: Fitted
    scored: Scored

    @property
    def line(self) -> list[str | float | None]:
        """Its cells."""
        fitted, scored = self.fitted, self.scored
        return [
            self.name,
            self.mode,
            fitted.columns,
            fitted.fit_s,
            fitted.memory_mb,
            scored.batch_ms,
            scored.rows_s,
            scored.explained_s,
            scored.memory_mb,
        ]


COLUMNS = (
    "detector",
    "mode",
    "columns",
    "fit, s",
    "fit, MB",
    "1,000 rows, ms",
    "score, rows/s",
    "explain, rows/s",
    "score, MB",
)


def measure(name: str, data: Dataset, *, span_s: float) -> tuple[Measured, dict[str, int]]:
    """Return the figures of one detector, and how many rows it saw."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as place:
        folder = Path(place)
        counts = prepare(folder, registry.detector_class(name), data)
        fitted = Fitted(**in_a_process("fit", folder, name, span_s=span_s))
        scored = Scored(**in_a_process("score", folder, name, span_s=span_s))
    mode = registry.create(name).mode
    return Measured(name=name, mode=mode, fitted=fitted, scored=scored), counts


def aims(found: Sequence[Measured]) -> list[Aim]:
    """Return the limits, against the slowest detectors."""
    slow_fit = max(found, key=lambda one: one.fitted.fit_s)
    live = [one for one in found if one.mode == "live"]
    slow = max(live, key=lambda one: one.scored.batch_ms)
    return [
        Aim(
            what=f"the slowest fit ({slow_fit.name})",
            wanted=FIT_S,
            measured=slow_fit.fitted.fit_s,
            unit="s",
            at_most=True,
        ),
        Aim(
            what=f"1,000 rows of the slowest live detector ({slow.name})",
            wanted=LIVE_MS,
            measured=slow.scored.batch_ms,
            unit="ms",
            at_most=True,
        ),
    ]


def report(args: Any, span_s: float) -> None:
    """Measure all detectors, or the few of the short form, and report."""
    data = nsl_kdd(short=args.short)
    names = [name for name in registry.names() if name in SHORT or not args.short]
    found = [measure(name, data, span_s=span_s) for name in names]
    counts = found[0][1]
    measured = [one for one, _ in found]
    Report(
        name="detectors",
        title="Detectors at the size of NSL-KDD",
        protocol=PLAN.format(
            data="the first records of NSL-KDD" if args.short else "NSL-KDD",
            fit=counts["normal"],
            held_out=counts["held_out"],
            anomalies=counts["anomalies"],
            batch=BATCH,
            slow=SLOW,
            explained=EXPLAINED,
            span_s=span_s,
        ),
        tables=[
            Table(title="Time and memory of each detector", columns=COLUMNS, rows=[m.line for m in measured])
        ],
        aims=aims(measured),
    ).finish(args)


def main() -> None:
    """Measure and report; or take one step for the process that does."""
    parser = arguments(__doc__)
    parser.add_argument("--step", choices=["fit", "score"], help="one step of one detector, for itself")
    parser.add_argument("--folder", type=Path, help="where the rows and the state of that step are")
    parser.add_argument("--span-s", type=float, help="seconds that each figure is measured for, at least")
    parser.add_argument("name", nargs="?", help="the detector of that step")
    args = parser.parse_args()
    span_s = args.span_s or (0.3 if args.short else 2.0)
    if args.step == "fit":
        print(json.dumps(asdict(fit(args.folder, args.name))))
    elif args.step == "score":
        print(json.dumps(asdict(score(args.folder, args.name, span_s=span_s))))
    elif DATA_VARIABLE in os.environ:
        report(args, span_s)
    else:
        print(f"not measured: {DATA_VARIABLE} must name the folder of the public datasets")


if __name__ == "__main__":
    main()
