"""Time and memory of every detector on NSL-KDD: `python tests/bench/bench_detectors.py --help`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from detector_steps import BATCH, EXPLAINED, SLOW, Fitted, Scored
from rig import Aim, Report, Table, arguments

from connectors.sources import DATA_VARIABLE
from detectors import registry
from detectors.base import Detector
from pipeline.features.normaliser import Normaliser
from training.datasets import Dataset, load_dataset

FIT_S, LIVE_MS = 600.0, 200.0
SHORT_ROWS = 3_000
SHORT = ("autoencoder", "beaa", "bn", "knn", "robust_z")
STEPS = Path(__file__).with_name("detector_steps.py")

PLAN = """Every detector with its default parameters, on {data}: fitted on {fit:,} normal rows of the
training part ({held_out:,} normal rows of the test part are held out; for figures of quality they would be
rows of the training part), with {anomalies:,} attacks of the training part for those that use any; then it
scores and explains rows of the test part, attacks among them.

A process fits and saves, another one loads and scores, as a worker does, so that times and memory are the
detector's own; one BLAS thread. Memory is the most that was resident, with the interpreter, the libraries
and the matrix of the rows. Fitting is in seconds by the clock. Scoring is in batches of {batch:,} rows
({slow:,} where a detector is for evaluation only), explaining in batches of {explained:,}, by CPU time; each
figure is the median of the calls of at least {span_s:g} s, after one that warms up."""


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
    command = [sys.executable, str(STEPS), step, str(folder), name, "--span-s", str(span_s)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
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
            fitted.fit_cpu_s,
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
    "fit, CPU s",
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


def slowest(what: str, wanted: float, unit: str, found: Sequence[tuple[float, str]]) -> Aim:
    """Return the limit of a time, against the detector that needs the most of it."""
    measured, name = max(found)
    return Aim(what=f"{what} ({name})", wanted=wanted, measured=measured, unit=unit, at_most=True)


def aims(found: Sequence[Measured]) -> list[Aim]:
    """Return the limits of fitting and, for live detectors, of scoring."""
    fits = [(one.fitted.fit_s, one.name) for one in found]
    live = [(one.scored.batch_ms, one.name) for one in found if one.mode == "live"]
    limits = [slowest("the slowest fit", FIT_S, "s", fits)]
    return (
        [*limits, slowest("1,000 rows of the slowest live detector", LIVE_MS, "ms", live)] if live else limits
    )


def report(args: argparse.Namespace, span_s: float) -> None:
    """Measure all detectors, or the few of the short form, and report."""
    data = nsl_kdd(short=args.short)
    usual = [name for name in registry.DETECTORS if name in SHORT or not args.short]
    names = args.only.split(",") if args.only else usual
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
    """Measure and report."""
    parser = arguments(__doc__)
    parser.add_argument("--only", metavar="NAMES", help="these detectors, with commas between")
    args = parser.parse_args()
    if DATA_VARIABLE in os.environ:
        report(args, 0.3 if args.short else 2.0)
    else:
        print(f"not measured: {DATA_VARIABLE} must name the folder of the public datasets")


if __name__ == "__main__":
    main()
