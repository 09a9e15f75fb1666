"""From captured flows to a calibrated model where nobody labelled anything, and what can be said of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kstest

from detectors import registry
from detectors.base import Progress, Scores, no_progress
from pipeline.budget import Asked
from pipeline.bundle import Bundle
from pipeline.judge import judge_rows
from pipeline.publication import address_text
from pipeline.quantities import odds, quantity
from pipeline.reasons import reasons_of
from pipeline.verdict import FeatureShare, Reasons
from pipeline.words import feature_kind, feature_text
from training.captured import Captured
from training.errors import TrainingError
from training.evaluate import Evaluation, evaluate
from training.metrics import ALPHAS, FalseAlarms
from training.splits import Rows, Split
from training.train import Plan, draft, fit, write
from training.trimming import Trimmed, Trimming, trimmed

SHOWN = 10
"""Flows of the test part that are shown with their reasons."""

REASONS = 3
"""Features named of each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """How often a model alarms on the test part, of which nobody knows what is in it."""

    n: int
    flows_per_hour: float
    flagged: tuple[FalseAlarms, ...]  # all rows taken as normal
    tenths: tuple[float, ...]  # share of the p-values in each tenth of (0, 1]; all 0.1 if calibrated
    distance: float  # largest between the p-values' distribution and the uniform one

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for the manifest: no figure that would need labels."""
        return {
            "n": self.n,
            "flows_per_hour": self.flows_per_hour,
            "flagged_at_alpha": {f"{row.alpha:g}": asdict(row) for row in self.flagged},
            "p_values_by_tenth": list(self.tenths),
            "p_values_from_uniform": self.distance,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A model on disk, what was left out of it, and how it behaves."""

    bundle: Bundle
    trimmed: Trimmed
    observed: Observed
    oddest: tuple[str, ...]  # flows of the test part with their reasons, one text each
    fit_s: float


def learn(
    dataset: Captured,
    plan: Plan,
    trimming: Trimming,
    *,
    models_dir: Path,
    name: str,
    alphas: Sequence[float] = ALPHAS,
    budget: Asked | None = None,
    progress: Progress = no_progress,
) -> Learned:
    """Trim, fit, calibrate, watch the test part, and write the model as the next version of `name`.

    Parameters
    ----------
    dataset : Captured
        As `load_captured` returns it.
    plan : Plan
        Detector, parameters, seed.
    trimming : Trimming
        What is left out.
    models_dir : Path
        Folder of all models.
    name : str
        Of the model in that folder.
    alphas : sequence of float
        False-alarm rates at which flagged flows are counted.
    budget : Asked, optional
        Of false alarms: the alpha that it makes at the flow rate of the capture goes into the manifest.
    progress : Progress
        Called as the work goes on.

    Raises
    ------
    TrainingError
        If there are too few rows, or the detector cannot be trained without labels or on trimmed rows.
    """
    _check(plan, trimming)

    def score(split: Split, rows: Rows) -> Scores:
        with draft(fit(dataset, plan, split=split, progress=progress), dataset) as first:
            return evaluate(first, dataset, rows, alphas=()).scores

    kept = trimmed(dataset.split(seed=plan.seed, fractions=plan.fractions), dataset, trimming, score)
    fitted = fit(dataset, plan, split=kept.split, progress=progress)
    with draft(fitted, dataset) as bundle:
        found = evaluate(bundle, dataset, kept.split.test, alphas=alphas)
        oddest = tuple(_oddest(bundle, dataset, kept.split.test, found))
    observed = observe(found, dataset)
    spent = budget.at(observed.flows_per_hour) if budget else None
    written = write(
        fitted,
        dataset,
        models_dir,
        name,
        figures=observed.to_json(),
        data={"flows_per_hour": observed.flows_per_hour, "trimming": kept.to_json(dataset, trimming)},
        reference=fitted.reference(dataset),
        budget=spent.to_json(fitted.calibration) if spent else None,
    )
    return Learned(bundle=written, trimmed=kept, observed=observed, oddest=oddest, fit_s=fitted.fit_s)


def _check(plan: Plan, trimming: Trimming) -> None:
    detector = registry.create(plan.detector, plan.parameters)
    if "anomalies" in detector.uses:
        raise TrainingError(
            f"{plan.detector} learns from known anomalies, and captured flows have no labels; take one that "
            "needs none, as beaa"
        )
    if detector.history and (trimming.cut_bursts or trimming.contamination or trimming.without):
        raise TrainingError(
            f"{plan.detector} looks back on {detector.history} rows, and trimming would tear its sequences; "
            "give --contamination 0 --keep-bursts and no --without, or take another detector"
        )


def observe(found: Evaluation, dataset: Captured) -> Observed:
    """Return what can be said of a test part without labels."""
    p_values, n = found.p_values, found.p_values.size
    tenths, _ = np.histogram(p_values, bins=10, range=(0.0, 1.0))
    return Observed(
        n=n,
        flows_per_hour=dataset.features.num_rows / max(dataset.hours, 1e-9),
        flagged=found.figures.false_alarms,
        tenths=tuple(float(count / n) for count in tenths),
        distance=float(kstest(p_values, "uniform").statistic),
    )


def _oddest(bundle: Bundle, dataset: Captured, rows: Rows, found: Evaluation) -> Iterator[str]:
    """Yield the flows of smallest p-value in words; none where a row cannot be judged alone."""
    if bundle.detector.history:
        return
    order = np.argsort(found.p_values, kind="stable")[:SHOWN]
    features = dataset.take(rows[order])
    judged = judge_rows(bundle, features)
    because = judged.window.explain(np.arange(order.size))
    told = reasons_of(bundle, features, because, judged.watched)
    for row, p_value, reasons in zip(features.to_pylist(), judged.p_values, told, strict=True):
        yield f"{_flow(row)}  p = {p_value:.1g} ({odds(p_value)}): {_why(bundle, reasons)}"


def _flow(row: Mapping[str, Any]) -> str:
    source, destination = (
        address_text(row[name]) if row[name] else "no address" for name in ("src_ip", "dst_ip")
    )
    port = "" if row["dst_port"] is None else f":{row['dst_port']}"
    when = datetime.fromtimestamp(row["event_time"].timestamp(), UTC)
    return f"{when:%Y-%m-%d %H:%M:%S} {source} -> {destination}{port} {row['protocol'] or ''}".rstrip()


def _why(bundle: Bundle, reasons: Reasons) -> str:
    shares: dict[str, FeatureShare] = {}
    for term in reasons.terms:
        for share in term.features:
            shares.setdefault(share.name, share)
    return "; ".join(_share(bundle, share) for share in list(shares.values())[:REASONS])


def _share(bundle: Bundle, share: FeatureShare) -> str:
    kind = feature_kind(bundle.feature_set.id, share)
    observed, expected = (quantity(value, share.unit, kind) for value in (share.observed, share.expected))
    return f"{feature_text(bundle.feature_set.id, share.name)} {observed}, expected {expected}"
