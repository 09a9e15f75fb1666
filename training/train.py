"""From a dataset to a calibrated model: split, normalise, fit, calibrate, judge on rows never seen."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from detectors import registry
from detectors.base import Detector, Matrix, Progress, Scores, Sources, no_progress
from detectors.calibration import Calibration
from pipeline.budget import Asked
from pipeline.bundle import Bundle, write_bundle
from pipeline.features.normaliser import Normaliser
from pipeline.history import Window, source_numbers, source_runs
from pipeline.reference import Reference
from pipeline.terms import named_terms
from training.contexts import check_feature, in_contexts, told
from training.datasets import Dataset
from training.evaluate import evaluate
from training.lending import SHARE, lend
from training.metrics import ALPHAS, Figures
from training.pictures import pictures
from training.splits import Fractions, Rows, Split

MAX_ROWS: dict[str, int] = {"knn": 20_000}
"""Detectors that keep the rows they learn from, so that their cost grows with every one."""

# Streams of random numbers beside that of the split, which uses the seed itself: none of them
# changes when another draws more.
CAP_STREAM, FIT_STREAM, BASELINE_STREAM = 1, 2, 4

BASELINES = ("robust_z", "knn")
MOST_JUDGED = 50_000
"""Test rows that the baselines of a card judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to train; equal plans on equal data give equal models."""

    detector: str = "beaa"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    fractions: Fractions | None = None  # None: those of the dataset's kind
    max_rows: int | None = None  # of the fit part, drawn by seed; None: the detector's usual
    share: float = SHARE  # of anomalies lent to detectors that use them, see `training.lending`
    contexts: str | None = None  # categorical feature each value of which has a model of its own

    @property
    def cap(self) -> int | None:
        """Most rows to fit on."""
        return self.max_rows or MAX_ROWS.get(self.detector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A calibrated model, not yet written."""

    plan: Plan
    detector: Detector
    normaliser: Normaliser
    calibration: Calibration
    split: Split
    n_fit: int  # rows the detector saw, after the cap
    fit_s: float
    scores: Scores  # of the calibration rows, in their order

    def reference(self, dataset: Dataset) -> Reference:
        """Return what the live stream is compared with: all normal rows but those of the test part."""
        rows = self.split.normal
        timed = dataset.times[rows] if dataset.order == "time" else None
        p_values = self.calibration.p_value(self.scores), dataset.times[self.split.cal]
        return Reference.fit(dataset.feature_set, dataset.take(rows), timed, p_values)


def fit(
    dataset: Dataset, plan: Plan, *, split: Split | None = None, progress: Progress = no_progress
) -> Fitted:
    """Return a detector fitted on the fit part, stopped by val, calibrated on cal.

    `split` is that of the plan's seed and fractions, unless another one is given.

    Raises
    ------
    TrainingError
        If a part of the split would be empty.
    DetectorError
        If the detector, a parameter or the rows are not usable.
    """
    detector = registry.create(plan.detector, plan.parameters)
    if plan.contexts:
        check_feature(dataset.feature_set, plan.contexts)
    split = split or dataset.split(seed=plan.seed, fractions=plan.fractions)
    split = lend(split, dataset, uses=detector.uses, share=plan.share, seed=plan.seed)
    rows = capped(split.fit, plan, together=detector.history > 0)
    normal = dataset.take(rows)
    normaliser = Normaliser.fit(
        dataset.feature_set,
        normal,
        kinds=detector.columns,
        scaling=detector.scaling,
        context=plan.contexts,
    )
    if plan.contexts:
        detector = in_contexts(detector, normaliser)

    def matrix(chosen: Rows) -> Matrix | None:
        return normaliser.matrix(dataset.take(chosen)) if chosen.size else None

    started = time.monotonic()
    detector.fit(
        normaliser.matrix(normal),
        held_out=normaliser.matrix(dataset.take(split.val)),
        rng=np.random.default_rng([plan.seed, FIT_STREAM]),
        anomalies=matrix(split.anomalies),
        unlabelled=matrix(split.unlabelled),
        progress=progress,
        **_sources(detector, dataset, normal=rows, held_out=split.val, unlabelled=split.unlabelled),
    )
    fit_s = time.monotonic() - started
    progress("calibrate", 0.0)
    scores = Window.of(detector, normaliser, dataset.take(split.cal)).scores
    calibration = Calibration.fit(scores)
    progress("calibrate", 1.0)
    return Fitted(
        plan=plan,
        detector=detector,
        normaliser=normaliser,
        calibration=calibration,
        split=split,
        n_fit=rows.size,
        fit_s=fit_s,
        scores=scores,
    )


def _sources(detector: Detector, dataset: Dataset, **parts: Rows) -> dict[str, Any]:
    """Return what `fit` is told of sources: nothing where the detector does not ask for them."""
    if detector.history_of != "source":
        return {}
    numbers = {part: source_runs(dataset.take(rows)) for part, rows in parts.items()}
    return {"sources": Sources(**numbers)}


def capped(rows: Rows, plan: Plan, *, together: bool = False) -> Rows:
    """Return `rows`, or as many as the plan's cap drawn from them by its seed, in order.

    `together` takes the last ones instead: drawn rows are no sequence.
    """
    cap = plan.cap
    if cap is None or rows.size <= cap:
        return rows
    if together:
        return rows[rows.size - cap :]
    rng = np.random.default_rng([plan.seed, CAP_STREAM])
    return np.sort(rng.choice(rows, size=cap, replace=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model on disk, and how it did on the test part."""

    bundle: Bundle
    figures: Figures
    fit_s: float


def train_model(
    dataset: Dataset,
    plan: Plan,
    *,
    models_dir: Path,
    name: str,
    alphas: Sequence[float] = ALPHAS,
    baselines: bool = True,
    budget: Asked | None = None,
    progress: Progress = no_progress,
) -> Trained:
    """Fit, calibrate, judge on the test part, and write the model as the next version of `name`.

    Parameters
    ----------
    dataset : Dataset
        As `load_dataset` returns it.
    plan : Plan
        Detector, parameters, seed.
    models_dir : Path
        Folder of all models.
    name : str
        Of the model in that folder.
    alphas : sequence of float
        False-alarm rates at which alarms and found attacks are counted.
    baselines : bool
        Whether the card shows the figures of the baselines beside the model's.
    budget : Asked, optional
        Of false alarms, stated in the manifest with the alpha that it makes.
    progress : Progress
        Called as the work goes on.
    """
    if budget and dataset.order != "time":
        budget.at(None)  # a rate that nobody can know is missed before the work, not behind it
    fitted = fit(dataset, plan, progress=progress)
    spent = budget.at(flows_per_hour(dataset, fitted.split)) if budget else None
    progress("judge the test part", 0.0)
    with draft(fitted, dataset) as bundle:
        found = evaluate(bundle, dataset, fitted.split.test, alphas=alphas)
    progress("judge the test part", 1.0)
    beside = _beside(fitted, dataset, progress) if baselines else {}
    sample = dataset.take(fitted.split.cal)
    terms = named_terms(
        fitted.detector, fitted.normaliser, fitted.normaliser.matrix(sample), source_numbers(sample)
    )
    written = write(
        fitted,
        dataset,
        models_dir,
        name,
        figures={**found.figures.to_json(), "baselines": beside},
        pictures=pictures(fitted.calibration.scores, found, terms),
        reference=fitted.reference(dataset),
        budget=spent.to_json(fitted.calibration) if spent else None,
    )
    return Trained(bundle=written, figures=found.figures, fit_s=fitted.fit_s)


def _beside(fitted: Fitted, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Return the figures of the baselines on the test part, fitted on the same rows.

    The nearest neighbour of millions of rows takes hours: of a large test part they judge a sample.
    """
    rows = fitted.split.test
    if rows.size > MOST_JUDGED:
        rng = np.random.default_rng([fitted.plan.seed, BASELINE_STREAM])
        rows = np.sort(rng.choice(rows, MOST_JUDGED, replace=False))
    found: dict[str, Any] = {}
    for name in BASELINES:
        progress(f"baseline {name}", 0.0)
        if name != fitted.plan.detector:
            plan = Plan(detector=name, seed=fitted.plan.seed)
            with draft(fit(dataset, plan, split=fitted.split), dataset) as bundle:
                found[name] = evaluate(bundle, dataset, rows).figures.to_json()
        progress(f"baseline {name}", 1.0)
    return found


@contextmanager
def draft(fitted: Fitted, dataset: Dataset) -> Iterator[Bundle]:
    """Give the model as a worker would load it, from a folder that is gone afterwards.

    So all figures are those of a model that was written and read, judged by the code of the stream.
    """
    with TemporaryDirectory(prefix="weir-draft-") as folder:
        yield write(fitted, dataset, Path(folder), "draft", figures=None)


def write(
    fitted: Fitted,
    dataset: Dataset,
    models_dir: Path,
    name: str,
    *,
    figures: Mapping[str, Any] | None,
    pictures: Mapping[str, bytes] | None = None,
    data: Mapping[str, Any] | None = None,
    reference: Reference | None = None,
    budget: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a fitted model as the next version under its name; `data` goes into its manifest as well."""
    notes = [*dataset.notes]
    if fitted.n_fit < fitted.split.fit.size:
        notes.append(
            f"Fitted on {fitted.n_fit} of {fitted.split.fit.size} rows of the fit part, drawn by seed."
        )
    context_rows = told(fitted.detector, fitted.plan.contexts)
    return write_bundle(
        models_dir,
        name,
        detector=fitted.detector,
        normaliser=fitted.normaliser,
        calibration=fitted.calibration,
        calibration_rows=dataset.take(fitted.split.cal),
        seed=fitted.plan.seed,
        data={
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "records_left_out": dataset.n_rejected,
            "rows_fitted": fitted.n_fit,
            "fractions": asdict(fitted.plan.fractions) if fitted.plan.fractions else None,
            "lent_share": fitted.plan.share if fitted.detector.uses else None,
            "flows_per_hour": flows_per_hour(dataset, fitted.split),
            "split": fitted.split.summary(dataset.times if dataset.order == "time" else None),
            **({"contexts": context_rows} if context_rows else {}),
            **(data or {}),
        },
        figures=figures or {},
        notes=notes,
        pictures=pictures,
        reference=reference,
        budget=budget,
    )


def flows_per_hour(dataset: Dataset, split: Split) -> float | None:
    """Return how many normal flows an hour the training parts hold; None where they have no times."""
    rows = split.normal
    hours = float(np.ptp(dataset.times[rows])) / 3.6e9
    return rows.size / hours if dataset.order == "time" and hours > 0 else None
