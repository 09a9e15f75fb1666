"""What is particular to the diffusion-time classifier."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from detectors.base import Matrix
from detectors.dte_nn import DiffusionTime, ExpectedTime
from detectors.errors import ParameterError
from detectors.networks import Layer, Network

pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")


def answering(*logits: float) -> ExpectedTime:
    """Return the score of a classifier that gives every row of one column the same logits."""
    return ExpectedTime(Network((Layer(np.zeros((len(logits), 1)), np.array(logits), "linear"),)))


def ring(n: int, rng: np.random.Generator) -> Matrix:
    """Return rows on a circle of radius 1.4: each column of variance 1, nothing in the middle."""
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    return np.sqrt(2.0) * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.05 * rng.normal(size=(n, 2))


@pytest.fixture(scope="module")
def on_a_ring() -> DiffusionTime:
    rng = np.random.default_rng(0)
    detector = DiffusionTime(hidden=(64, 64), epochs=8)
    return detector.fit(ring(2000, rng), held_out=ring(500, rng), rng=rng)


def test_the_score_is_the_log_odds_of_the_expected_bin() -> None:
    """Probabilities 1/4, 1/4, 1/2 of bins 0, 1, 2: 1.25 are expected of at most 2."""
    found = answering(0.0, 0.0, np.log(2.0)).on_tile(np.zeros((1, 1)))

    np.testing.assert_allclose(found, [[np.log(1.25 / 0.75)]])


def test_rows_are_told_apart_that_are_surely_in_the_last_bin() -> None:
    sure, surer = (answering(0.0, 0.0, logit).on_tile(np.zeros((1, 1))).item() for logit in (800.0, 900.0))

    assert np.isfinite([sure, surer]).all()
    assert surer > sure + 50.0


def test_noise_grows_with_the_time_as_in_the_paper() -> None:
    """The variance at time t is 1 - prod(1 - beta), beta from 1e-4 to 1e-2 in 400 steps."""
    deviations = DiffusionTime().deviations()

    assert deviations.shape == (400,)
    assert deviations[0] == pytest.approx(1e-2)
    assert deviations[1] == pytest.approx(np.sqrt(1.0 - (1.0 - 1e-4) * (1.0 - 1e-4 - 9.9e-3 / 399)))
    assert deviations[-1] == pytest.approx(0.931, abs=1e-3)
    assert (np.diff(deviations) > 0).all()


def test_the_more_noise_the_later_the_expected_time(on_a_ring: DiffusionTime) -> None:
    rng = np.random.default_rng(1)
    rows, levels = ring(1000, rng), rng.uniform(0.0, 0.9, 1000)
    scores = on_a_ring.score(rows + levels[:, None] * rng.normal(size=rows.shape))

    assert spearmanr(levels, scores).statistic > 0.45


def test_a_hole_in_the_middle_of_normal_rows_is_seen(on_a_ring: DiffusionTime) -> None:
    """The middle is the most usual value of each column, and no normal row is near it."""
    middle = 0.1 * np.random.default_rng(2).normal(size=(100, 2))

    assert on_a_ring.score(middle).min() > np.quantile(
        on_a_ring.score(ring(500, np.random.default_rng(3))), 0.99
    )


def test_the_classifier_beats_the_best_guess_without_looking(on_a_ring: DiffusionTime) -> None:
    """Seven bins alike give a cross-entropy of log 7."""
    report = on_a_ring.state().parameters["report"]

    assert report["objective"] == min(report["objectives"])
    assert report["objective"] < 0.95 * np.log(7.0)


def test_columns_in_other_units_give_the_same_ranking() -> None:
    """The noise is alike in all columns, so columns are standardised first."""
    rng = np.random.default_rng(0)
    rows, units = ring(600, rng), np.array([1e-3, 1e4])
    one, other = (
        DiffusionTime(hidden=(16,), epochs=3).fit(x, held_out=x, rng=np.random.default_rng(0)).score(x)
        for x in (rows, rows * units)
    )

    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_paper_s_setting_is_that_of_the_published_code() -> None:
    paper = DiffusionTime(variant="paper")

    assert (paper.hidden, paper.bins, paper.times) == ((256, 512, 256), 7, 400)
    assert (paper.learning_rate, paper.weight_decay, paper.batch) == (1e-4, 5e-4, 64)
    assert (paper.epochs, paper.patience, paper.dropout) == (400, 0, 0.5)
    assert paper.double_softmax
    dropped = [type(module).__name__ for module in paper._network(9)]
    assert dropped == ["Linear", "ReLU", *["Linear", "ReLU", "Dropout"] * 2, "Linear", "Identity"]


def test_the_paper_s_loss_never_falls_below_that_of_probabilities() -> None:
    """A softmax of probabilities is never sure: its cross-entropy stays above log(1 + 6 / e)."""
    rng = np.random.default_rng(0)
    detector = DiffusionTime(variant="paper", hidden=(32,), epochs=3, batch=32)
    detector.fit(ring(300, rng), held_out=ring(100, rng), rng=rng)

    assert np.log(1.0 + 6.0 / np.e) < detector.state().parameters["report"]["objective"] <= np.log(7.0) + 0.01


@pytest.mark.parametrize(
    "parameters", [{"bins": 1}, {"hidden": [0]}, {"least_noise": 0.2, "most_noise": 0.1}, {"dropout": 1.0}]
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        DiffusionTime(**parameters)
