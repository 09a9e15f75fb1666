"""Detectors that look back on flows of the same source: trained, calibrated and judged as the stream does."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from detectors.model import Training
from detectors.pu_gan import PUGAN
from pipeline import history
from pipeline.bundle import Bundle
from pipeline.history import Past, Window, source_numbers
from pipeline.judge import Judge
from pipeline.panel import Panel
from training import evaluate as evaluation
from training.datasets import Dataset, load_dataset
from training.evaluate import evaluate
from training.train import Fitted, Plan, draft, fit

pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

SMALL: dict[str, Any] = {"length": 4, "stride": 2, "hidden": 4, "latent": 2, "components": 4, "epochs": 1}
REACH = 60
"""Some flows of a source are further away than that."""


@pytest.fixture(scope="module")
def flows() -> Dataset:
    """The first flows of a synthetic day, of 80 sources."""
    return load_dataset("synthetic", part="days", limit=1500)


@pytest.fixture(scope="module", autouse=True)
def _near() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "REACH", REACH)
        yield


@pytest.fixture(scope="module")
def fitted(flows: Dataset) -> Fitted:
    return fit(flows, Plan(detector="pu_gan", parameters={**SMALL, "history_of": "source"}))


@pytest.fixture(scope="module")
def bundle(flows: Dataset, fitted: Fitted) -> Iterator[Bundle]:
    with draft(fitted, flows) as written:
        yield written


def behind(dataset: Dataset, rows: np.ndarray, row: int, length: int) -> np.ndarray:
    """Return the window of one of some rows of a dataset, as the rule says it."""
    sources = source_numbers(dataset.take(rows))
    near = np.arange(max(0, row - REACH), row + 1)
    window = near[sources[near] == sources[row]][-length:]
    return rows[np.concatenate([np.repeat(window[:1], length - len(window)), window])]


def test_the_bundle_looks_back_on_sources(bundle: Bundle) -> None:
    assert bundle.detector.history_of == "source"


def test_rows_are_judged_as_the_stream_judges_them(
    flows: Dataset, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, whatever the steps of the evaluation and the messages of the stream."""
    rows = np.arange(900, 1500)
    whole = evaluate(bundle, flows, rows)
    monkeypatch.setattr(evaluation, "ROWS_PER_STEP", 77)
    stepped = evaluate(bundle, flows, rows)
    judge = Judge(Panel(name="main", alpha=0.1, bundles=(bundle,)), first=1, bucket_s=60.0)
    past: Past | None = None
    live = []
    for start in range(0, rows.size, 31):
        message = flows.take(rows[start : start + 31])
        live.append(judge.judge(message, 0, before=past).p_values)
        past = judge.depth.past(past, message)

    np.testing.assert_array_equal(whole.scores, stepped.scores)
    np.testing.assert_array_equal(whole.p_values, np.concatenate(live))


def test_each_row_is_scored_behind_its_source(flows: Dataset, bundle: Bundle) -> None:
    """The test rows, and the rows of the calibration."""
    rows = np.arange(900, 1500)
    found = evaluate(bundle, flows, rows).scores
    for row in range(0, rows.size, 29):
        window = bundle.normaliser.matrix(flows.take(behind(flows, rows, row, SMALL["length"])))
        assert bundle.detector.score(window).tolist() == [found[row]]


def test_chosen_rows_are_explained_behind_their_source(flows: Dataset, bundle: Bundle) -> None:
    """Their terms, and those of the explanation, add up to the scores that they have among all."""
    window = Window.of(bundle.detector, bundle.normaliser, flows.take(np.arange(900, 1500)))
    rows = np.array([3, 250, 251, 599])
    terms = window.terms(rows)

    np.testing.assert_array_equal(terms, window.explain(rows).terms)
    np.testing.assert_allclose(terms.sum(axis=1), window.scores[rows], rtol=1e-12)


def test_the_calibration_is_by_source(flows: Dataset, fitted: Fitted) -> None:
    cal = fitted.split.cal
    windows = [behind(flows, cal, row, SMALL["length"]) for row in range(cal.size)]
    scores = [fitted.detector.score(fitted.normaliser.matrix(flows.take(window)))[0] for window in windows]

    np.testing.assert_array_equal(np.sort(scores), fitted.calibration.scores)


@pytest.mark.parametrize("history_of", ["lane", "source"])
def test_a_detector_is_told_of_sources_where_it_heeds_them(
    flows: Dataset, history_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number for each row that it learns from; other detectors need not know of sources."""
    told: list[Training] = []

    def learn(self: PUGAN, data: Training) -> object:
        told.append(data)
        return learned(self, data)

    learned = PUGAN.learn
    monkeypatch.setattr(PUGAN, "learn", learn)
    plan = Plan(detector="pu_gan", parameters={**SMALL, "history_of": history_of, "n_bags": 3})
    split = fit(flows, plan).split
    sources = told[0].sources
    if history_of == "lane":
        assert sources is None
    else:
        assert sources is not None
        for numbers, rows in zip(sources, (split.fit, split.val, split.unlabelled), strict=True):
            np.testing.assert_array_equal(numbers, history.source_runs(flows.take(rows)))
