"""Training: it trains, on normal rows alone, and says how."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.errors import ParameterError
from pipeline.bundle import load_bundle
from pipeline.judge import judge_rows
from training.datasets import Dataset, load_dataset
from training.metrics import NORMAL, roc_auc
from training.splits import Fractions
from training.train import Fitted, Plan, Trained, capped, fit, train_model


def scores(dataset: Dataset, fitted: Fitted) -> np.ndarray:
    x = fitted.normaliser.matrix(dataset.take(fitted.split.test))
    return fitted.detector.score(x)


def test_what_was_planted_is_found_and_robust_z_does_not_find_it(small: Dataset, trained: Trained) -> None:
    """Attacks break a relation between two columns, each of which looks normal by itself."""
    plain = fit(small, Plan(detector="robust_z", seed=3))
    attack = small.labels[plain.split.test] != NORMAL

    assert trained.figures.roc_auc is not None
    assert trained.figures.roc_auc > 0.97
    assert roc_auc(attack, scores(small, plain)) < 0.8


def test_stated_false_alarms_are_observed(trained: Trained) -> None:
    """Normal test rows come from the same traffic here: alpha lies in the interval of what is seen."""
    alarms = trained.figures.false_alarms[0]

    assert alarms.alpha == 0.01
    assert alarms.low <= alarms.alpha <= alarms.high


def test_attacks_are_never_learnt_from(small: Dataset) -> None:
    """Whatever the attack rows hold, the model comes out the same, bit for bit."""
    rows = np.arange(small.features.num_rows)
    rows[~small.normal] = 0  # every attack becomes a copy of the first row
    changed = replace(small, features=small.features.take(rows))
    plan = Plan(detector="bn", seed=3)
    one, two = fit(small, plan), fit(changed, plan)

    for name, array in one.detector.state().arrays.items():
        np.testing.assert_array_equal(array, two.detector.state().arrays[name])
    np.testing.assert_array_equal(one.calibration.scores, two.calibration.scores)


@pytest.mark.parametrize("detector", ["bn", "robust_z", "knn"])
def test_equal_plans_give_equal_models(small: Dataset, detector: str) -> None:
    """A model is a function of data and plan."""
    plan = Plan(detector=detector, seed=5, max_rows=400)
    one, two = (scores(small, fit(small, plan)) for _ in range(2))

    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, scores(small, fit(small, replace(plan, seed=6))))


def test_a_cap_is_drawn_by_seed_and_said(small: Dataset, tmp_path: Path) -> None:
    """Rows above the cap are left out at random, in order, and the bundle says so."""
    rows = np.arange(1000)
    plan = Plan(seed=1, max_rows=100)
    drawn = capped(rows, plan)
    capped_model = train_model(
        small, Plan(detector="robust_z", max_rows=100), models_dir=tmp_path, name="capped"
    )

    assert drawn.size == 100
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, capped(rows, plan))
    assert not np.array_equal(drawn, capped(rows, replace(plan, seed=2)))
    np.testing.assert_array_equal(capped(rows, plan, together=True), rows[-drawn.size :])
    assert capped_model.bundle.manifest["data"]["rows_fitted"] == 100
    assert any("100 of 900 rows" in note for note in capped_model.bundle.manifest["notes"])


def test_the_bundle_holds_what_a_reader_needs(small: Dataset, trained: Trained) -> None:
    """Detector, seed, data, split with spans, and the figures that were shown."""
    manifest = trained.bundle.manifest
    parts = manifest["data"]["split"]["parts"]

    assert (manifest["detector"]["name"], manifest["seed"]) == ("bn", 3)
    assert manifest["data"]["fingerprint"] == small.fingerprint
    assert {name: part["rows"] for name, part in parts.items()} == {
        "fit": 900, "val": 150, "cal": 450, "test": 500,
    }  # fmt: skip
    assert manifest["figures"]["roc_auc"] == trained.figures.roc_auc
    assert set(manifest["figures"]["found_at_alpha"]["0.01"]) == {"neptune", "satan"}


def test_the_bundle_on_disk_scores_as_the_fitted_detector(
    small: Dataset, models: Path, trained: Trained
) -> None:
    """Written and read again, it gives the same bits."""
    fitted = fit(small, Plan(detector="bn", seed=3))
    bundle = load_bundle("small/1", models)
    judged = judge_rows(bundle, small.take(fitted.split.test))

    assert bundle.sha256 == trained.bundle.sha256
    np.testing.assert_array_equal(scores(small, fitted), judged.scores)


def test_calibration_sees_its_part_alone(small: Dataset) -> None:
    """There is one calibration score for each row of cal, and they are those rows' scores."""
    fitted = fit(small, Plan(detector="bn", fractions=Fractions(fit=0.5, val=0.1, cal=0.2)))
    x = fitted.normaliser.matrix(small.take(fitted.split.cal))

    assert fitted.split.cal.size == 300
    np.testing.assert_array_equal(np.sort(fitted.detector.score(x)), fitted.calibration.scores)


def test_an_unknown_parameter_is_refused_before_anything_is_read(small: Dataset) -> None:
    """The message names the parameter and those that there are."""
    with pytest.raises(ParameterError, match=r"bn\.structur is no parameter; did you mean structure"):
        fit(small, Plan(detector="bn", parameters={"structur": "pc"}))


def test_the_default_learns_the_planted_relation(small: Dataset) -> None:
    """BEAA as it is deployed, end to end, with two members for speed."""
    fitted = fit(small, Plan(parameters={"n_members": 2}))
    attack = small.labels[fitted.split.test] != NORMAL

    assert roc_auc(attack, scores(small, fitted)) > 0.97


@pytest.mark.data
def test_nsl_kdd_end_to_end(data_dir: Path, tmp_path: Path) -> None:
    """On a slice of the real data a model is far better than robust_z, and says its figures."""
    dataset = load_dataset("nsl-kdd", data_dir, limit=12_000)
    found = train_model(dataset, Plan(detector="bn"), models_dir=tmp_path, name="slice").figures
    plain = train_model(dataset, Plan(detector="robust_z"), models_dir=tmp_path, name="plain").figures

    assert found.roc_auc is not None
    assert plain.roc_auc is not None
    assert found.roc_auc > 0.9
    assert found.roc_auc > plain.roc_auc + 0.03
