"""Histograms are those of PyOD, or shares of rows."""

import numpy as np
import pytest
from pyod.models import hbos as theirs

from detectors.base import Matrix
from detectors.errors import ParameterError
from detectors.hbos import HBOS, frequencies

RNG = np.random.default_rng(0)


def standard(x: Matrix) -> Matrix:
    """Return columns in the detector's own units: densities depend on them."""
    return (x - x.mean(axis=0)) / x.std(axis=0)


NORMAL = standard(np.column_stack([RNG.normal(size=(500, 2)), RNG.exponential(size=500)]))
ROWS = np.concatenate([NORMAL, 1.5 * NORMAL, NORMAL[:20] + 7.0])


def fit(x: Matrix = NORMAL, **parameters: object) -> HBOS:
    return HBOS(**parameters).fit(x, held_out=x[:100], rng=np.random.default_rng(0))


@pytest.mark.parametrize("n_bins", [10, 25])
def test_scores_are_those_of_pyod(n_bins: int) -> None:
    found = theirs.HBOS(n_bins=n_bins).fit(NORMAL)
    ours = fit(variant="paper", n_bins=n_bins)

    np.testing.assert_allclose(ours.score(NORMAL), found.decision_scores_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.score(ROWS), found.decision_function(ROWS), rtol=1e-9, atol=1e-9)


def test_heights_are_shares_of_rows_with_one_more_in_each_bin() -> None:
    """Six zeros and two ones: 7/11, 3/11, and 1/11 for everything else."""
    edges, terms = frequencies(np.array([0.0] * 6 + [1.0] * 2), n_bins=5)
    found = terms[np.searchsorted(edges, [-9.0, 0.0, 1.0, 9.0])]

    np.testing.assert_allclose(np.exp(-found), np.array([1, 7, 3, 1]) / 11)


def test_every_training_row_lies_in_a_bin() -> None:
    """Also the least and the largest value, and those of columns of a few values."""
    rng = np.random.default_rng(1)
    for column in (rng.normal(size=333), rng.integers(0, 3, 333).astype(float), np.full(333, 5.0)):
        edges, terms = frequencies(column, n_bins=20)
        outside = terms.max()

        assert (terms[np.searchsorted(edges, column)] < outside).all()
        np.testing.assert_allclose(np.exp(-terms[:-1]).sum(), 1.0)


def test_rare_values_of_a_column_of_few_stand_out() -> None:
    x = np.column_stack([NORMAL, np.arange(500) % 100 == 0]).astype(np.float64)
    terms = fit(x).terms(np.column_stack([NORMAL[[0, 0]], [1.0, 0.0]]))

    assert terms[0].argmax() == 3
    assert terms[0, 3] > 3 * terms[1, 3]


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ParameterError, match="n_bins is 1, expected a whole number of at least 2"):
        HBOS(n_bins=1)
