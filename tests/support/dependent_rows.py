"""Rows whose columns hang together by a few hidden causes, and the same rows with that broken."""

import numpy as np

from detectors.base import Matrix

CAUSES, COLUMNS = 2, 8

LOADINGS = np.random.default_rng(11).normal(size=(COLUMNS, CAUSES))


def dependent_rows(n: int, seed: int) -> Matrix:
    """Return rows of about unit variance: two hidden causes and a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, CAUSES)) @ LOADINGS.T + 0.3 * rng.normal(size=(n, COLUMNS))
    scaled: Matrix = x / np.sqrt(np.sum(LOADINGS**2, axis=1) + 0.09)
    return scaled


def broken_rows(n: int, seed: int) -> Matrix:
    """Return such rows with each column shuffled by itself."""
    rng = np.random.default_rng(seed + 1)
    return np.column_stack([rng.permutation(column) for column in dependent_rows(n, seed).T])


def separation(normal: Matrix, odd: Matrix) -> float:
    """Return how often an odd row's score is above a normal one's: the area under the ROC curve."""
    return float(np.mean(odd[:, None] > normal[None, :]))
