"""Rows a CPU-second of the detectors and of the whole judge: `python tests/bench/bench_scoring.py --help`."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
from rig import Aim, Report, Table, arguments, train

from connectors.sources import Generated, open_source
from detectors import registry
from detectors.base import Detector, Matrix
from pipeline.bundle import load_bundle
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from pipeline.judge import Judge
from pipeline.panel import Panel

D, M, BATCH = 24, 8, 1_000
FIT_ROWS = 20_000
ALPHA = 1e-4
MODELS = ("beaa", "bn", "robust_z")
"""Detectors of the judge's table; the first alone in the short form."""
METHODS = ("score", "terms", "explain")

PLAN = """One thread, batches of {batch:,} rows, CPU time of the thread; nothing of Kafka. Each figure is the
median of {repeats} repeats, each at least {span_s:g} s over batches that follow one another, after one that
warms up.

Detectors alone: fitted on {fit:,} rows with {d} columns drawn from a factor model with {m} factors; BEAA with
m = {m} noise directions, otherwise defaults. `terms` is the parts of the score, computed for every flagged
row; `explain` adds contributions and expected values, computed for the flagged rows that can be published.
The floor is the score's arithmetic with no promise about bits: y = W x + c and its squared norm, with numpy.

The judge on `conn`: a working day of the generated office without attacks, features with windows computed
beforehand, alpha {alpha:g}: normalise, score, p-value, decide; the day with all attacks beside it, where
many rows are flagged, and explained as far as grouping publishes them."""


def rate(work: Callable[[int], Any], n_rows: int, *, span_s: float, repeats: int) -> float:
    """Return rows a CPU-second of `work`, which gets the number of its call."""
    work(0)
    found = []
    for _ in range(repeats):
        began, calls = time.thread_time(), 0
        while (spent := time.thread_time() - began) < span_s:
            work(calls)
            calls += 1
        found.append(calls * n_rows / spent)
    return statistics.median(found)


def factor_rows(n: int, rng: np.random.Generator) -> Matrix:
    """Return rows of a factor model."""
    loadings = np.random.default_rng(3).standard_normal((M, D))
    return rng.standard_normal((n, M)) @ loadings + rng.standard_normal((n, D))


def live_detectors() -> list[Detector]:
    """Return every detector that may run in the stream, fitted."""
    rng = np.random.default_rng(0)
    normal, held_out = factor_rows(FIT_ROWS, rng), factor_rows(FIT_ROWS // 4, rng)
    parameters = {"beaa": {"n_noise": M}}
    made = [registry.create(name, parameters.get(name)) for name in registry.names()]
    live = [detector for detector in made if detector.mode == "live"]
    return [detector.fit(normal, held_out=held_out, rng=np.random.default_rng(1)) for detector in live]


def floor(x: Matrix, weights: Matrix, constants: Matrix) -> Matrix:
    """Return the squared norm of an affine map of each row."""
    y = x @ weights + constants
    result: Matrix = np.einsum("ij,ij->i", y, y)
    return result


def detectors_table(batches: Sequence[Matrix], measured: Callable[..., float]) -> tuple[Table, list[Aim]]:
    """Return rows a CPU-second of every live detector, and the aims of BEAA."""
    n = len(batches)
    rows: list[list[str | float | None]] = []
    found: dict[tuple[str, str], float] = {}
    for detector in live_detectors():
        for method in METHODS:
            call = getattr(detector, method)
            found[detector.name, method] = measured(lambda i, call=call: call(batches[i % n]))
        rows.append([detector.name, *(found[detector.name, method] for method in METHODS)])
    weights = np.random.default_rng(2).standard_normal((D, D + M))
    least = measured(lambda i: floor(batches[i % n], weights, np.ones(D + M)))
    rows.append(["floor: affine map and its norm", least, None, None])
    table = Table(
        title=f"Detectors, rows a CPU-second at d = {D}",
        columns=["detector", *METHODS],
        rows=rows,
    )
    told = f"BEAA {{}}, d = {D}, m = {M}, batches of {BATCH:,}"
    score, explain = found["beaa", "score"], found["beaa", "explain"]
    return table, [
        Aim(what=told.format("score"), wanted=3e6, measured=score, unit="rows/CPU-s"),
        Aim(what=told.format("explain"), wanted=2e5, measured=explain, unit="rows/CPU-s"),
    ]


def day(*, attacks: bool) -> list[pa.RecordBatch]:
    """Return the features of one generated day in batches."""
    source = open_source("synthetic", generated=Generated(seed=1, days=1, attacks=attacks))
    features = offline_features(feature_set("conn"), (chunk.rows for chunk in source.chunks())).features
    whole = features.combine_chunks().to_batches()[0]
    return [whole.slice(at, BATCH) for at in range(0, whole.num_rows - BATCH, BATCH)]


def judge_row(
    name: str, folder: Path, quiet: Sequence[pa.RecordBatch], loud: Sequence[pa.RecordBatch], measured: Any
) -> list[str | float | None]:
    """Return the figures of one model: its steps, the judge, and the judge under attack."""
    train(folder / name, detector=name)
    bundle = load_bundle("bench", folder / name / "models")
    panel = Panel(name="bench", alpha=ALPHA, bundles=(bundle,))
    judge = Judge(panel, first=3, bucket_s=60.0)
    matrices = [bundle.normaliser.matrix(batch) for batch in quiet]
    scores = [bundle.detector.score(x) for x in matrices]
    n = len(quiet)
    judged = [judge.judge(batch, 0).flagged.num_rows for batch in loud]
    return [
        name,
        len(bundle.normaliser.columns),
        measured(lambda i: bundle.normaliser.matrix(quiet[i % n])),
        measured(lambda i: bundle.detector.score(matrices[i % n])),
        measured(lambda i: bundle.calibration.p_value(scores[i % n])),
        measured(lambda i: judge.judge(quiet[i % n], 0)),
        measured(lambda i: judge.judge(loud[i % len(loud)], 0)),
        f"{100 * sum(judged) / (len(loud) * BATCH):.2g} %",
    ]


def judge_table(models: Sequence[str], measured: Callable[..., float]) -> Table:
    """Return rows a CPU-second of the judge with each model."""
    quiet, loud = day(attacks=False), day(attacks=True)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        rows = [judge_row(name, Path(folder), quiet, loud, measured) for name in models]
    return Table(
        title="The judge on conn, rows a CPU-second",
        columns=[
            "model",
            "columns",
            "normalise",
            "score",
            "p-value",
            "judge, quiet day",
            "judge, day of attacks",
            "flagged there",
        ],
        rows=rows,
    )


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__).parse_args()
    span_s, repeats = (0.2, 3) if args.short else (0.5, 5)
    rng = np.random.default_rng(5)
    batches = [factor_rows(BATCH, rng) for _ in range(200)]
    measured = partial(rate, n_rows=BATCH, span_s=span_s, repeats=repeats)
    detectors, aims = detectors_table(batches, measured)
    Report(
        name="scoring",
        title="Scoring alone",
        protocol=PLAN.format(
            batch=BATCH, repeats=repeats, span_s=span_s, fit=FIT_ROWS, d=D, m=M, alpha=ALPHA
        ),
        tables=[detectors, judge_table(MODELS[:1] if args.short else MODELS, measured)],
        aims=aims,
    ).finish(args)


if __name__ == "__main__":
    main()
