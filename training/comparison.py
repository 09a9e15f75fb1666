"""The quality table: every detector on public datasets, over seeds, in one protocol.

Nothing is chosen by test labels: detectors run with the parameters named here, all others at their
defaults, and the table shows every run.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import detectors
from detectors.base import Progress, no_progress
from pipeline import judge
from pipeline.bundle import Bundle
from pipeline.features import normaliser
from training import evaluate as evaluation
from training import metrics, splits, train
from training.datasets import Dataset
from training.errors import TrainingError
from training.evaluate import evaluate, split_again
from training.metrics import Figures
from training.splits import Rows
from training.train import Plan, draft, fit

ALPHA = 1e-2
"""Where stated and observed false alarms are compared: low enough to matter, high enough to count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A detector with its parameters, as a line of the table."""

    label: str
    detector: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    random: bool = False  # whether the seed matters on one and the same split


CONTENDERS = (
    Contender(label="robust_z", detector="robust_z"),
    Contender(label="kNN", detector="knn"),
    # Structure from all rows of the fit part, so that a sample of them adds no chance of its own.
    Contender(label="bn (PC)", detector="bn", parameters={"structure": "pc", "max_rows": 50_000}),
    Contender(label="bn (hill-climbing)", detector="bn", parameters={"structure": "hc", "max_rows": 50_000}),
    Contender(
        label="beaa (truncation)", detector="beaa", parameters={"selection": "truncation"}, random=True
    ),
    Contender(label="beaa (default)", detector="beaa", random=True),
)
DATASETS = ("nsl-kdd", "unsw-nb15")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one contender reached on one dataset with one seed."""

    key: str  # equal keys: nothing that could change the figures has changed
    dataset: str
    contender: str
    seed: int
    roc_auc: float
    average_precision: float
    average_precision_common: float
    observed: float  # share of normal test rows with p <= ALPHA
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


def code_hash() -> str:
    """Return a hash over the code that makes figures of features: its change makes every run stale.

    Sources and features are not part of it: the dataset's fingerprint covers what they give.
    """
    digest = hashlib.sha256()
    for file in [*sorted(Path(str(detectors.__file__)).parent.rglob("*.py")), *map(_file, JUDGING)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


JUDGING: tuple[ModuleType, ...] = (judge, normaliser, evaluation, metrics, splits, train)


def _file(module: ModuleType) -> Path:
    return Path(str(module.__file__))


def compare(
    load: Callable[[str], Dataset],
    *,
    seeds: int,
    cache: Cache,
    datasets: tuple[str, ...] = DATASETS,
    contenders: tuple[Contender, ...] = CONTENDERS,
    progress: Progress = no_progress,
) -> tuple[list[Run], list[Dataset]]:
    """Return the runs of every contender on every dataset, and the datasets.

    A contender without chance runs once where the split does not depend on the seed.
    """
    if seeds < 1:
        raise TrainingError(f"{seeds} seeds; expected 1 or more")
    code = code_hash()
    loaded = [load(name) for name in datasets]
    planned = [
        (dataset, contender, seed)
        for dataset in loaded
        for contender in contenders
        for seed in range(seeds if contender.random or dataset.order == "none" else 1)
    ]
    runs = []
    for done, (dataset, contender, seed) in enumerate(planned):
        progress("runs", done / len(planned))
        key = _key(dataset, contender, seed, code)
        run = cache.get(key)
        if run is None:
            run = measure(dataset, contender, seed, key)
            cache.add(run)
        runs.append(run)
    progress("runs", 1.0)
    return runs, loaded


def _key(dataset: Dataset, contender: Contender, seed: int, code: str) -> str:
    parts = [dataset.fingerprint, contender.detector, sorted(contender.parameters.items()), seed, code]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def measure(dataset: Dataset, contender: Contender, seed: int, key: str) -> Run:
    """Fit, calibrate and judge one contender."""
    fitted = fit(dataset, Plan(detector=contender.detector, parameters=contender.parameters, seed=seed))
    with draft(fitted, dataset) as bundle:
        found = evaluate(bundle, dataset, fitted.split.test, alphas=(ALPHA,)).figures
    if found.roc_auc is None or found.average_precision is None or found.average_precision_common is None:
        raise TrainingError(f"{dataset.name}: the test part holds no attack or no normal row to compare with")
    return Run(
        key=key,
        dataset=dataset.name,
        contender=contender.label,
        seed=seed,
        roc_auc=found.roc_auc,
        average_precision=found.average_precision,
        average_precision_common=found.average_precision_common,
        observed=found.false_alarms[0].observed,
        fit_s=fitted.fit_s,
    )


BASELINES = ("robust_z", "knn")


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
