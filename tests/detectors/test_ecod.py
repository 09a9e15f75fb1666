"""Empirical tails are those of PyOD and of the paper."""

import numpy as np
import pytest
from pyod.models import ecod as theirs

from detectors.base import Matrix
from detectors.ecod import ECOD
from detectors.errors import ParameterError, StateError
from detectors.state import dump_state, load_state

RNG = np.random.default_rng(0)
NORMAL = np.column_stack(
    [RNG.normal(size=300), RNG.exponential(size=300), -RNG.exponential(size=300), RNG.random(300) < 0.1]
).astype(np.float64)
ROWS = np.concatenate([NORMAL[:40], 2.0 * NORMAL[40:60], NORMAL[:5] + 9.0])


def fit(x: Matrix = NORMAL, **parameters: object) -> ECOD:
    return ECOD(**parameters).fit(x, held_out=x[:100], rng=np.random.default_rng(0))


def test_scores_are_those_of_pyod_for_one_row_alone() -> None:
    """PyOD ranks a whole batch among the training rows; alone, a row is ranked as here."""
    found = theirs.ECOD().fit(NORMAL)
    wanted = [found.decision_function(row[None]).item() for row in ROWS]

    np.testing.assert_allclose(fit(beyond=False).score(ROWS), wanted, rtol=1e-12)


def test_training_rows_rank_as_in_pyod() -> None:
    found = theirs.ECOD().fit(NORMAL).decision_scores_

    assert np.corrcoef(fit(beyond=False).score(NORMAL), found)[0, 1] > 0.995


def test_the_paper_takes_the_largest_of_three_sums() -> None:
    """Algorithm 1, by counting."""
    n = len(NORMAL)
    low = -np.log([[(1 + np.sum(NORMAL[:, j] <= row[j])) / (n + 1) for j in range(4)] for row in ROWS])
    high = -np.log([[(1 + np.sum(NORMAL[:, j] >= row[j])) / (n + 1) for j in range(4)] for row in ROWS])
    skewed_left = np.mean((NORMAL - NORMAL.mean(axis=0)) ** 3, axis=0) < 0
    auto = np.where(skewed_left, low, high)
    wanted = np.max([low.sum(axis=1), high.sum(axis=1), auto.sum(axis=1)], axis=0)

    np.testing.assert_allclose(fit(variant="paper").score(ROWS), wanted, rtol=1e-12)


def test_a_long_column_is_exact_in_its_tails_and_near_it_in_between() -> None:
    x = np.random.default_rng(1).normal(size=(20_000, 1))
    exact, kept = (fit(x, max_points=most, beyond=False) for most in (100_000, 1000))
    tails = np.sort(x, axis=0)[np.r_[:249, -249:0]]

    np.testing.assert_array_equal(exact.score(tails), kept.score(tails))
    # A share is off by the rows between two kept ones: at most 20,000 / 500.
    np.testing.assert_allclose(np.exp(-exact.score(x)), np.exp(-kept.score(x)), atol=41 / 20_000)
    assert sum(value.size for value in kept.state().arrays.values()) < 5000


def test_what_lies_outside_goes_on_growing_unless_it_is_the_paper() -> None:
    far, further = NORMAL[:1] + 100.0, NORMAL[:1] + 1000.0

    assert fit().score(further) > 50 * fit().score(far)
    assert fit(variant="paper").score(further) == fit(variant="paper").score(far)


def test_bad_parameters_and_states_are_refused() -> None:
    with pytest.raises(ParameterError, match="tail is 'both', expected one of 'column', 'row'"):
        ECOD(tail="both")
    state = load_state(dump_state(fit().state()))
    state.arrays["skew"][0] = 0.5
    with pytest.raises(StateError, match="skew"):
        ECOD().restore(state)
