"""The quality table: every detector on public datasets, over seeds, in one protocol.

Nothing is chosen by test labels: detectors run with the parameters named here, all others at their
defaults, and the table shows every run.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

import detectors
from detectors import registry
from detectors.base import Progress, no_progress
from pipeline import judge
from pipeline.bundle import Bundle
from pipeline.features import normaliser
from training import evaluate as evaluation
from training import lending, metrics, splits, train
from training.datasets import Dataset
from training.errors import TrainingError
from training.evaluate import evaluate, split_again
from training.metrics import Figures
from training.odds import RECIPES, OutlierSet, scaled
from training.splits import Rows
from training.train import BASELINES, Plan, draft, fit

ALPHA = 1e-2
"""Where stated and observed false alarms are compared: low enough to matter, high enough to count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A detector with its parameters, as a line of the table."""

    label: str
    detector: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    random: bool = False  # whether the seed matters on one and the same split
    needs_anomalies: bool = False  # whether it cannot be fitted without known anomalies
    flows_only: bool = False  # whether it is kept from outlier sets


CONTENDERS = (
    Contender(label="kNN", detector="knn"),
    Contender(label="robust_z", detector="robust_z"),
    Contender(label="ecod", detector="ecod"),
    Contender(label="hbos", detector="hbos"),
    Contender(label="isolation_forest", detector="isolation_forest", random=True),
    Contender(label="ocsvm", detector="ocsvm", random=True),
    Contender(label="svm (known anomalies)", detector="svm", random=True, needs_anomalies=True),
    # Structure from all rows of the fit part, so that a sample of them adds no chance of its own.
    Contender(label="bn (PC)", detector="bn", parameters={"structure": "pc", "max_rows": 50_000}),
    Contender(label="bn (hill-climbing)", detector="bn", parameters={"structure": "hc", "max_rows": 50_000}),
    Contender(label="bn_mixture", detector="bn_mixture", random=True),
    # In a generator that has shrunk every column depends on all others: PC tests ever more subsets of them,
    # on the 64 columns of optdigits for more than ten minutes.
    Contender(
        label="beaa (truncation)",
        detector="beaa",
        parameters={"selection": "truncation"},
        random=True,
        flows_only=True,
    ),
    Contender(label="beaa (default)", detector="beaa", random=True),
    Contender(label="autoencoder", detector="autoencoder", random=True),
    Contender(label="vae", detector="vae", random=True),
    Contender(label="advae", detector="advae", random=True),
    Contender(label="aae", detector="aae", random=True),
    Contender(label="alad", detector="alad", random=True),
    Contender(label="egbad", detector="egbad", random=True),
    Contender(label="ganomaly", detector="ganomaly", random=True),
    Contender(label="anogan", detector="anogan", random=True),
    Contender(label="gan_generator", detector="gan_generator", random=True),
    Contender(label="gan_discriminator", detector="gan_discriminator", random=True),
    Contender(label="mo_gaal", detector="mo_gaal", random=True),
    Contender(label="dte_nn", detector="dte_nn", random=True),
    Contender(label="anoean (known anomalies)", detector="anoean", random=True),
    Contender(label="pu_gan (unlabelled rows)", detector="pu_gan", random=True),
)
DATASETS = ("nsl-kdd", "unsw-nb15")
OUTLIER_SETS = tuple(RECIPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one contender reached on one dataset with one seed."""

    key: str  # equal keys: nothing that could change the figures has changed
    dataset: str
    contender: str
    seed: int
    roc_auc: float
    average_precision: float
    average_precision_common: float | None  # None: outlier sets are small
    observed: float | None  # share of normal test rows with p <= ALPHA
    fit_s: float


class Cache:
    """Runs kept as JSON lines, so that an interrupted comparison goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: dict[str, Run] = {run.key: run for run in _read_runs(path)}

    def get(self, key: str) -> Run | None:
        """Return the run of this key, if there is one."""
        return self._runs.get(key)

    def add(self, run: Run) -> None:
        """Keep a run, on disk at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._runs[run.key] = run
        with self._path.open("a", encoding="utf-8") as file:
            # The line break comes first: a line that an interruption cut off stays by itself.
            file.write(f"\n{json.dumps(asdict(run))}\n")


def _read_runs(path: Path) -> Iterator[Run]:
    """Yield the whole lines of a cache; what an interruption cut off is not one."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield Run(**json.loads(line))
        except (ValueError, TypeError):
            continue


def code_hash(detector: str) -> str:
    """Return a hash over the code that makes figures of features with a detector.

    Its change makes the detector's runs stale. Other detectors' files are not part of it, nor are
    sources and features: the dataset's fingerprint covers what they give.
    """
    folder = Path(str(detectors.__file__)).parent
    others = {path for name, path in _files(folder).items() if name != detector}
    digest = hashlib.sha256()
    for file in [*sorted(folder.rglob("*.py")), *map(_file, JUDGING)]:
        if not others & {file, *file.parents}:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _files(folder: Path) -> dict[str, Path]:
    """Return the file or folder of each built-in detector."""
    found = {}
    for name, place in registry.DETECTORS.items():
        module = folder / place.partition(":")[0].split(".")[1]
        found[name] = module if module.is_dir() else module.with_suffix(".py")
    return found


JUDGING: tuple[ModuleType, ...] = (judge, normaliser, evaluation, lending, metrics, splits, train)


def _file(module: ModuleType) -> Path:
    return Path(str(module.__file__))


class Target(Protocol):
    """Rows to compare detectors on."""

    @property
    def name(self) -> str:
        """Name in the table."""

    @property
    def fingerprint(self) -> str:
        """Hash of the rows."""

    @property
    def shuffled(self) -> bool:
        """Whether the seed deals out rows, so that it matters for every detector."""

    def measure(self, contender: Contender, seed: int) -> dict[str, Any]:
        """Return the figures of a `Run`."""


@dataclass(frozen=True, slots=True)
class Flows:
    """A dataset of flows, judged by the code of the stream."""

    dataset: Dataset

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.dataset.name

    @property
    def fingerprint(self) -> str:
        """Hash of the features."""
        return self.dataset.fingerprint

    @property
    def shuffled(self) -> bool:
        """Whether order means nothing."""
        return self.dataset.order == "none"

    def measure(self, contender: Contender, seed: int) -> dict[str, Any]:
        """Fit, calibrate and judge one contender."""
        plan = Plan(detector=contender.detector, parameters=contender.parameters, seed=seed)
        fitted = fit(self.dataset, plan)
        with draft(fitted, self.dataset) as bundle:
            found = evaluate(bundle, self.dataset, fitted.split.test, alphas=(ALPHA,)).figures
        if found.roc_auc is None or found.average_precision is None:
            raise TrainingError(f"{self.name}: the test part lacks attacks or normal rows")
        return {
            "roc_auc": found.roc_auc,
            "average_precision": found.average_precision,
            "average_precision_common": found.average_precision_common,
            "observed": found.false_alarms[0].observed,
            "fit_s": fitted.fit_s,
        }


@dataclass(frozen=True, slots=True)
class Outliers:
    """An outlier set, as a matrix."""

    rows: OutlierSet

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.rows.name

    @property
    def fingerprint(self) -> str:
        """Hash of the values."""
        return self.rows.fingerprint

    @property
    def shuffled(self) -> bool:
        """The seed deals out which training rows are held out."""
        return True

    def measure(self, contender: Contender, seed: int) -> dict[str, Any]:
        """Fit and judge one contender."""
        detector = registry.create(contender.detector, contender.parameters)
        rng = np.random.default_rng(seed)
        normal, held_out = self.rows.parts(rng)
        normal, held_out, test = scaled(normal, [normal, held_out, self.rows.test], detector.scaling)
        started = time.monotonic()
        detector.fit(normal, held_out=held_out, rng=rng)
        fit_s, scores = time.monotonic() - started, detector.score(test)
        return {
            "roc_auc": metrics.roc_auc(self.rows.outlier, scores),
            "average_precision": metrics.average_precision(self.rows.outlier, scores),
            "average_precision_common": None,
            "observed": None,
            "fit_s": fit_s,
        }


def runs_on(target: Target, contender: Contender) -> bool:
    """Return whether a contender can be compared on a target.

    Outlier sets have no known anomalies to lend, and their rows are no sequence.
    """
    if isinstance(target, Flows):
        return True
    detector = registry.create(contender.detector, contender.parameters)
    return not (detector.history or contender.needs_anomalies or contender.flows_only)


def compare(
    targets: Sequence[Target],
    *,
    seeds: int,
    cache: Cache,
    contenders: tuple[Contender, ...] = CONTENDERS,
    progress: Progress = no_progress,
) -> list[Run]:
    """Return the runs of every contender on every target.

    A contender without chance runs once where the split does not depend on the seed.
    """
    if seeds < 1:
        raise TrainingError(f"{seeds} seeds; expected 1 or more")
    planned = [
        (target, contender, seed)
        for target in targets
        for contender in contenders
        if runs_on(target, contender)
        for seed in range(seeds if contender.random or target.shuffled else 1)
    ]
    runs = []
    for done, (target, contender, seed) in enumerate(planned):
        progress(f"{contender.label} on {target.name}, seed {seed}", done / len(planned))
        key = _key(target, contender, seed)
        run = cache.get(key)
        if run is None:
            run = Run(
                key=key,
                dataset=target.name,
                contender=contender.label,
                seed=seed,
                **target.measure(contender, seed),
            )
            cache.add(run)
        runs.append(run)
    progress("runs", 1.0)
    return runs


def _key(target: Target, contender: Contender, seed: int) -> str:
    what = [contender.detector, sorted(contender.parameters.items())]
    parts = [target.fingerprint, *what, seed, code_hash(contender.detector)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def baselines(bundle: Bundle, dataset: Dataset, rows: Rows) -> dict[str, Figures]:
    """Return the figures of the baselines on `rows`, fitted on the same split as the model.

    Raises
    ------
    TrainingError
        If the dataset is not the one that the model was trained on.
    """
    split = split_again(bundle, dataset)
    if split is None:
        raise TrainingError(
            f"{bundle.name}/{bundle.version} was not trained on this data, so there are no rows to fit "
            "baselines on; leave them out, or give the data of the training"
        )
    found: dict[str, Figures] = {}
    for name in BASELINES:
        fitted = fit(dataset, Plan(detector=name, seed=bundle.manifest["seed"]), split=split)
        with draft(fitted, dataset) as beside:
            found[name] = evaluate(beside, dataset, rows).figures
    return found
