"""Settings of detectors compared without any label: `python tests/bench/bench_settings.py --help`."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rig import Report, Table, arguments

from connectors.sources import DATA_VARIABLE
from detectors import registry
from detectors.base import Detector, Matrix, Scores
from pipeline.features.normaliser import Normaliser
from training.datasets import load_dataset
from training.metrics import roc_auc
from training.odds import load_outlier_set, scaled

PLAN = """Settings whose choice could otherwise be made by looking at the figures of a test set. Only normal
rows of training parts are used, at most {rows:,} a set; labelled anomalies and test parts are not read. The
rows are put into {groups} groups by k-means; one group of between 1 and 20 % of them is kept from training,
another one in each of {runs} runs: the *novel* rows. The other rows are dealt out: 60 % to fit on, 10 %
held out for stopping and scales, 30 % to be told from novel rows, from *crossed* ones (each column from one
of two of these rows) and from *moved* ones (three columns anew, uniform over their range and half of it
beyond either end). The figure is the ROC-AUC, its mean over the runs; *mean* is over the three kinds and
all sets. The setting in the first row of each detector is its default; another one takes its
place if it is better by more than 0.01."""

ROWS, GROUPS, RUNS = 6_000, 12, 2
FLOWS = ("nsl-kdd", "unsw-nb15")
OUTLIER_SETS = ("satellite", "pendigits")
KINDS = ("novel", "crossed", "moved")

CANDIDATES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "hbos": [{}, {"n_bins": 10}, {"n_bins": 50}, {"n_bins": 100}],
    "ocsvm": [
        {},
        *({"nu": nu, "gamma": gamma} for gamma in ("median", "local") for nu in (0.01, 0.05, 0.1, 0.2)),
    ],
    "dte_nn": [{}, {"epochs": 5}],
    "mo_gaal": [
        {},
        {"cap": 0.5},
        {"cap": 0.1},
        {"cap": 0.5, "spectral": True},
        {"cap": 0.5, "corrupted": False},
    ],
    "gan_discriminator": [
        {},
        {"shuffled": 0.0},
        {"shuffled": 0.0, "spectral": True},
        {"shuffled": 0.0, "corrupted": False, "made": 1.0},
        {"shuffled": 0.0, "made": 0.5},
    ],
    "pu_gan": [{}, *({"discriminator_share": share} for share in (0.2, 0.5, 0.8))],
    "egbad": [{}, {"learning_rate": 3e-4}, {"learning_rate": 3e-3}],
    "alad": [{}, {"learning_rate": 3e-4}, {"learning_rate": 1e-3}],
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Rows of one set and run, in the units that one scaling gives."""

    fit: Matrix
    held_out: Matrix
    normal: Matrix
    anomalies: Mapping[str, Matrix]


def normal_rows(name: str, scaling: str) -> Matrix:
    """Return normal rows of a set's training part."""
    if name in OUTLIER_SETS:
        rows = load_outlier_set(name).train
        return scaled(rows, [rows], scaling)[0][:ROWS]
    data = load_dataset(name, limit=40_000)
    taken = data.split(seed=0).fit
    batch = data.take(np.sort(np.random.default_rng(0).permutation(taken)[:ROWS]))
    every = frozenset({"numeric", "binary", "categorical"})
    return Normaliser.fit(data.feature_set, batch, kinds=every, scaling=scaling).matrix(batch)


def left_out(rows: Matrix, run: int) -> np.ndarray:
    """Return where the rows of one group are."""
    from sklearn.cluster import KMeans

    groups = KMeans(GROUPS, n_init=3, random_state=0).fit_predict(rows)
    sizes = np.bincount(groups) / len(rows)
    fitting = [group for group in np.argsort(-sizes) if 0.01 <= sizes[group] <= 0.2]
    return np.asarray(groups == fitting[run])


def trial(rows: Matrix, novel: np.ndarray, run: int) -> Trial:
    """Deal out rows and plant anomalies among the last ones."""
    rng = np.random.default_rng(run)
    rest = rng.permutation(rows[~novel])
    fit, held_out, normal = np.split(rest, [int(0.6 * len(rest)), int(0.7 * len(rest))])
    other = normal[rng.permutation(len(normal))]
    crossed = np.where(rng.random(normal.shape) < 0.5, normal, other)
    moved, (low, high) = normal.copy(), (rest.min(axis=0), rest.max(axis=0))
    columns = rng.permuted(np.tile(np.arange(rows.shape[1]), (len(normal), 1)), axis=1)[:, :3]
    at = np.arange(len(normal))[:, None]
    moved[at, columns] = (low + (high - low) * rng.uniform(-0.5, 1.5, normal.shape))[at, columns]
    kinds = {"novel": rows[novel], "crossed": crossed, "moved": moved}
    return Trial(fit=fit, held_out=held_out, normal=normal, anomalies=kinds)


def scores(detector: Detector, rows: Matrix, before: Matrix) -> Scores:
    """Return the score of each row, behind normal ones where a detector looks back."""
    length = detector.history + 1
    windows = np.concatenate([np.tile(before[: length - 1], (len(rows), 1, 1)), rows[:, None, :]], axis=1)
    return detector.score(windows.reshape(-1, rows.shape[1]))[::length]


def figures(name: str, parameters: Mapping[str, Any], trials: Sequence[Trial]) -> list[float]:
    """Return the ROC-AUC of each kind, the mean over the trials."""
    found = []
    for run, one in enumerate(trials):
        detector = registry.create(name, parameters)
        detector.fit(one.fit, held_out=one.held_out, rng=np.random.default_rng(run))
        usual = scores(detector, one.normal, one.held_out)
        for rows in one.anomalies.values():
            odd = scores(detector, rows, one.held_out)
            is_odd = np.repeat([False, True], [usual.size, odd.size])
            found.append(roc_auc(is_odd, np.concatenate([usual, odd])))
    return [float(value) for value in np.reshape(found, (len(trials), -1)).mean(axis=0)]


def lines(name: str, sets: Sequence[str]) -> Iterator[list[str | float]]:
    """Yield the table's lines of one detector."""
    scaling = registry.detector_class(name).scaling
    trials = {}
    for each in sets:
        # Groups are the same for all detectors, whatever their scaling.
        rows, grouped = normal_rows(each, scaling), normal_rows(each, "standard")
        trials[each] = [trial(rows, left_out(grouped, run), run) for run in range(RUNS)]
    for parameters in CANDIDATES[name]:
        told = ", ".join(f"{key}={value}" for key, value in parameters.items()) or "default"
        print(f"{name} {told} ...", file=sys.stderr, flush=True)
        found = [figures(name, parameters, trials[each]) for each in sets]
        line = [name, told, float(np.mean(found)), *np.ravel(found).tolist()]
        print(line, file=sys.stderr, flush=True)
        yield line


def main() -> None:
    """Compare and report."""
    parser = arguments(__doc__)
    parser.add_argument("--only", metavar="NAMES", help="these detectors, with commas between")
    args = parser.parse_args()
    if DATA_VARIABLE not in os.environ:
        print(f"not measured: {DATA_VARIABLE} must name the folder of the public datasets")
        return
    report(args)


def report(args: argparse.Namespace) -> None:
    """Measure all candidates, or one detector's on one set in the short form."""
    names = args.only.split(",") if args.only else ["hbos"] if args.short else list(CANDIDATES)
    sets = OUTLIER_SETS[:1] if args.short else (*FLOWS, *OUTLIER_SETS)
    columns = ["detector", "setting", "mean", *(f"{each} {kind}" for each in sets for kind in KINDS)]
    rows = [line for name in names for line in lines(name, sets)]
    Report(
        name="settings",
        title="Settings chosen without labels",
        protocol=PLAN.format(rows=ROWS, groups=GROUPS, runs=RUNS),
        tables=[Table(title="ROC-AUC on planted anomalies", columns=columns, rows=rows)],
    ).finish(args)


if __name__ == "__main__":
    main()
