"""Scores become p-values that keep their promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from detectors.base import Scores
from detectors.calibration import SMALLEST, Calibration, Tail, kde_threshold
from detectors.errors import FitError, StateError

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
some_scores = hnp.arrays(np.float64, st.integers(1, 60), elements=finite)


def exponential(n: int = 4000, seed: int = 0) -> Calibration:
    return Calibration.fit(np.random.default_rng(seed).exponential(size=n))


@settings(max_examples=60, deadline=None)
@given(some_scores, some_scores)
def test_p_values_are_probabilities(calibration: Scores, scores: Scores) -> None:
    """Every p-value is in (0, 1], whatever the scores."""
    p = Calibration.fit(calibration).p_value(scores)

    assert p.shape == scores.shape
    assert np.all((p > 0) & (p <= 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.lists(st.floats(-1e3, 1e12), min_size=2, max_size=30))
def test_p_values_never_rise_with_the_score(seed: int, scores: list[float]) -> None:
    """A higher score is never less anomalous, in the tail or before it."""
    rng = np.random.default_rng(seed)
    fitted = Calibration.fit(rng.pareto(1.5 + seed, size=1500))
    p = fitted.p_value(np.sort(np.array(scores)))

    assert fitted.tail is not None
    assert np.all(np.diff(p) <= 1e-15 * p[:-1])


def test_p_values_of_normal_flows_are_uniform() -> None:
    """On normal scores that it has not seen, p <= a happens in a share a of the cases."""
    rng = np.random.default_rng(1)
    p = Calibration.fit(rng.chisquare(20, size=20_000)).p_value(rng.chisquare(20, size=5_000))

    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_split_conformal_counts_exactly() -> None:
    """Below the largest calibration score p is (1 + scores at least as large) / (n + 1)."""
    calibration = Calibration.fit(np.array([3.0, 1.0, 2.0, 2.0]))

    np.testing.assert_array_equal(
        np.array([5, 5, 4, 4, 2, 2, 1]) / 5,
        calibration.p_value(np.array([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0])),
    )


@pytest.mark.parametrize("shape", [0.0, 0.2, 0.7])
def test_the_tail_is_continuous_at_the_largest_calibration_score(shape: float) -> None:
    """Just beyond it the tail begins at 1 / (n + 1)."""
    calibration = Calibration.fit(stats.genpareto(shape).rvs(3000, random_state=np.random.default_rng(0)))
    beyond = np.nextafter(calibration.scores[-1], np.inf)

    assert calibration.tail is not None
    np.testing.assert_allclose(calibration.resolution, calibration.p_value(np.array([beyond])), rtol=1e-9)


@pytest.mark.parametrize(("shape", "rare"), [(0.0, 1e-6), (0.25, 1e-6)])
def test_the_tail_extrapolates_what_it_has_not_seen(shape: float, rare: float) -> None:
    """The score that one flow in a million exceeds is judged so within a factor of 30, from 20,000 flows."""
    true = stats.genpareto(shape)
    ratios = [
        Calibration.fit(true.rvs(20_000, random_state=np.random.default_rng(seed))).p_value(
            np.array([true.isf(rare)])
        )[0]
        / rare
        for seed in range(10)
    ]

    assert 1 / 3 < np.median(ratios) < 3
    assert max(ratios) < 30
    assert min(ratios) > 1 / 30


def test_a_bounded_tail_is_not_believed() -> None:
    """Nothing is impossible: scores of bounded support get a tail that goes on."""
    calibration = Calibration.fit(np.random.default_rng(0).uniform(size=2000))

    assert calibration.tail is not None
    assert calibration.tail.shape >= 0
    assert calibration.p_value(np.array([1.01]))[0] > 1e-9


def test_p_values_are_never_zero() -> None:
    assert exponential().p_value(np.array([np.finfo(np.float64).max]))[0] >= SMALLEST > 0


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (np.arange(20.0), "20 calibration scores leave"),
        (np.zeros(500), "too discrete"),
        (np.random.default_rng(0).integers(0, 5, 5000).astype(float), "too discrete"),
    ],
)
def test_few_or_tied_scores_get_no_tail(scores: Scores, why: str) -> None:
    """Where a tail would be invented there is none, and the notes say why."""
    calibration = Calibration.fit(scores)

    assert calibration.tail is None
    assert why in calibration.notes[0]
    assert calibration.p_value(np.array([1e9]))[0] == calibration.resolution


def test_scores_of_any_size_have_a_tail() -> None:
    """Scores near the ends of the floats are calibrated like others, without overflow."""
    wide = np.concatenate([1.7e308 * np.linspace(-1, 1, 400), np.linspace(0, 1, 400)])
    tiny = np.random.default_rng(0).exponential(size=400) * 1e-300

    for calibration in (Calibration.fit(wide), Calibration.fit(tiny)):
        p = calibration.p_value(np.array([-1.7e308, 0.5e-300, 1.0, 1.7e308]))
        assert np.all((p > 0) & (p <= 1))
        assert np.all(np.diff(p) <= 0)


def test_notes_say_what_is_extrapolated() -> None:
    notes = exponential(4000).notes

    assert "below 0.00025 are extrapolated" in notes[0]
    assert any("heavy" in note for note in Calibration.fit(exponential(4000).scores ** 4).notes)
    assert any("few" in note for note in exponential(400).notes)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_a_p_value_depends_on_its_score_alone(shift: int, seed: int) -> None:
    """Bit for bit, at any place among any others."""
    rng, calibration = np.random.default_rng(seed), exponential(1000)
    scores, others = 20 * rng.exponential(size=30), 20 * rng.exponential(size=shift)
    moved = calibration.p_value(np.concatenate([others, scores]))

    np.testing.assert_array_equal(calibration.p_value(scores), moved[shift:])


@pytest.mark.parametrize("n", [1, 30, 5000])
def test_saved_calibrations_give_the_same_bits(n: int) -> None:
    calibration = exponential(n)
    again = Calibration.from_arrays(calibration.to_arrays())
    scores = np.linspace(-1, 100, 500)

    np.testing.assert_array_equal(calibration.p_value(scores), again.p_value(scores))
    assert (calibration.tail, calibration.notes) == (again.tail, again.notes)


@pytest.mark.parametrize(
    "damage",
    [
        {"scores": np.array([])},
        {"scores": np.array([2.0, 1.0])},
        {"scores": np.array([1.0, np.nan])},
        {"tail": np.array([1.0])},
        {"tail": np.array([-1.0, 1.0, 200.0])},
        {"tail": np.array([0.1, 0.0, 200.0])},
        {"tail": np.array([np.nan, 1.0, 200.0])},
    ],
)
def test_a_damaged_calibration_is_refused(damage: dict[str, Scores]) -> None:
    with pytest.raises(StateError, match="calibrate again"):
        Calibration.from_arrays(exponential().to_arrays() | damage)


def test_a_missing_array_is_refused() -> None:
    for name in ("scores", "tail"):
        arrays = {key: value for key, value in exponential().to_arrays().items() if key != name}
        with pytest.raises(StateError, match="calibrate again"):
            Calibration.from_arrays(arrays)


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.0, np.nan]), np.ones((2, 2))])
def test_bad_scores_are_refused(bad: Scores) -> None:
    with pytest.raises(FitError, match="finite scores of shape"):
        Calibration.fit(bad)


def test_scores_that_are_not_finite_have_no_p_value() -> None:
    with pytest.raises(FitError, match="finite scores"):
        exponential().p_value(np.array([np.nan]))


def test_what_carries_an_alpha_is_said() -> None:
    """Calibration flows, the fitted tail, or nothing at all."""
    assert "carried by 4000" in exponential(4000).carried(0.01)
    assert "extrapolated" in exponential(4000).carried(1e-6)
    assert "nothing will ever alarm" in exponential(20).carried(1e-6)


def test_a_tail_is_what_it_says() -> None:
    """Shape and scale follow the data: doubled scores have the same shape and twice the scale."""
    scores = np.random.default_rng(3).pareto(3, size=5000)
    one, two = Calibration.fit(scores).tail, Calibration.fit(2 * scores).tail

    assert isinstance(one, Tail)
    assert isinstance(two, Tail)
    assert two.shape == pytest.approx(one.shape, rel=1e-6)
    assert two.scale == pytest.approx(2 * one.scale, rel=1e-6)
    assert one.shape == pytest.approx(1 / 3, abs=0.15)


def silverman(scores: Scores) -> float:
    """Silverman's rule, written down again: 0.9 min(sd, IQR / 1.349) n^(-1/5)."""
    low, high = np.percentile(scores, [25, 75])
    return float(0.9 * min(scores.std(ddof=1), (high - low) / 1.349) * len(scores) ** -0.2)


@pytest.mark.parametrize("share", [0.3, 0.1, 1e-3])
@pytest.mark.parametrize("size", [1.0, 1e-9, 1e12])
def test_the_kde_threshold_is_where_the_smoothed_scores_reach_their_share(share: float, size: float) -> None:
    """Gaussian kernels of Silverman's bandwidth, the smallest s with CDF(s) >= 1 - share."""
    scores = size * np.random.default_rng(0).lognormal(size=700)
    kernels = stats.gaussian_kde(scores / size, bw_method=silverman(scores) / scores.std(ddof=1))
    found = kde_threshold(scores, share)

    assert kernels.integrate_box_1d(-np.inf, found / size) == pytest.approx(1 - share, abs=1e-9)
    assert kernels.integrate_box_1d(-np.inf, 0.999 * found / size) < 1 - share - 1e-7


def test_the_kde_threshold_of_one_kernel_s_worth_is_worked_out_by_hand() -> None:
    """Two scores: half of the mass lies beyond their middle, whatever the bandwidth."""
    assert kde_threshold(np.array([2.0, 4.0]), 0.5) == pytest.approx(3.0)


def test_the_kde_threshold_of_equal_scores_is_a_quantile() -> None:
    assert kde_threshold(np.full(50, 3.0), 0.1) == 3.0
    assert kde_threshold(np.array([7.0]), 0.1) == 7.0
    assert kde_threshold(np.array([0.0, 0.0]), 0.1) == 0.0


def test_half_equal_scores_are_smoothed_by_their_deviation() -> None:
    """A spread of the quartiles of zero would leave kernels without width."""
    scores = np.concatenate([np.zeros(60), np.arange(40.0)])

    assert kde_threshold(scores, 0.01) > scores.max()


@settings(max_examples=40, deadline=None)
@given(some_scores, st.floats(1e-6, 0.5))
def test_kde_thresholds_are_finite_and_rise_as_the_share_falls(scores: Scores, share: float) -> None:
    here, further = kde_threshold(scores, share), kde_threshold(scores, share / 10)

    assert np.isfinite(here)
    assert further >= here


def test_a_kde_threshold_becomes_the_alpha_of_a_panel() -> None:
    """Exactly the scores from the threshold on have p-values of at most that alpha."""
    calibration = exponential(4000)
    alpha, said = calibration.alpha_by_kde(0.1)
    scores = np.random.default_rng(5).exponential(size=3000)
    alarms = scores >= kde_threshold(calibration.scores, 0.1)

    assert alpha == pytest.approx(0.1, abs=0.01)
    assert "0.1 beyond" in said
    assert np.mean(alarms == (calibration.p_value(scores) <= alpha)) > 0.999


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, np.nan])
def test_a_senseless_share_is_refused(share: float) -> None:
    with pytest.raises(FitError, match="between 0 and 1"):
        kde_threshold(np.arange(9.0), share)


def test_scores_without_a_density_are_refused() -> None:
    with pytest.raises(FitError, match="finite scores of shape"):
        kde_threshold(np.array([1.0, np.inf]), 0.1)
