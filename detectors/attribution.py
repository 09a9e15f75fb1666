"""What each column adds to a function of a row: integrated gradients."""

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Scores
from detectors.networks import Differentiable
from detectors.tiles import ROWS

NODES = 16
"""Points on the path from the baseline to a row."""

_X, _W = np.polynomial.legendre.leggauss(NODES)
_AT, _WEIGHTS = (_X + 1.0) / 2.0, _W / 2.0


def integrated_gradients(
    function: Differentiable, rows: Matrix, baseline: Scores
) -> tuple[Matrix, npt.NDArray[np.float64]]:
    """Return a function's values at some rows, and what each column adds to them beyond the baseline's.

    The gradients along the straight path from the baseline to a row are integrated by Gauss-Legendre
    quadrature [1]_. What the quadrature leaves open is shared out in proportion to the columns'
    parts, so that value(row) = value(baseline) + sum of the contributions, to rounding.

    Parameters
    ----------
    function : Differentiable
        (d, m) -> (k, m), each column of the tile for itself.
    rows : ndarray of shape (n, d)
    baseline : ndarray of shape (d,)

    Returns
    -------
    values : ndarray of shape (n, k)
    contributions : ndarray of shape (n, k, d)

    References
    ----------
    .. [1] Sundararajan, Taly & Yan (2017), Axiomatic attribution for deep networks, ICML, equation 1.
    """
    values = values_at(function, rows)
    contributions = _integrals(function, rows, baseline)
    complete(contributions, values - values_at(function, baseline[None])[0])
    return values, contributions


def values_at(function: Differentiable, rows: Matrix) -> Matrix:
    """Return a function's values, (n, k), with bits that do not depend on the other rows."""
    found = [function.pullback(_tile(rows[first : first + ROWS]))[0] for first in range(0, len(rows), ROWS)]
    if not found:
        return function.pullback(_tile(rows))[0].T[:0]
    joined: Matrix = np.concatenate([y.T for y in found])[: len(rows)]
    return joined


def _tile(rows: Matrix) -> Matrix:
    tile = np.zeros((rows.shape[1], ROWS))
    tile[:, : len(rows)] = rows.T
    return tile


def _integrals(function: Differentiable, rows: Matrix, baseline: Scores) -> npt.NDArray[np.float64]:
    """Return the integrals, (n, k, d); a tile holds the path to one row, so no bit depends on the others."""
    paths = [_integral(function, row - baseline, baseline) for row in rows]
    if not paths:
        k = len(function.pullback(_tile(rows))[0])
        return np.empty((0, k, baseline.size))
    return np.stack(paths)


def _integral(function: Differentiable, away: Scores, baseline: Scores) -> Matrix:
    y, back = function.pullback(baseline[:, None] + away[:, None] * _AT)
    found = np.empty((len(y), away.size))
    for k in range(len(y)):
        seed = np.zeros_like(y)
        seed[k] = _WEIGHTS
        found[k] = back(seed).sum(axis=1) * away
    return found


def complete(contributions: npt.NDArray[np.float64], totals: Matrix) -> None:
    """Make the contributions to each value sum to its total."""
    for _ in range(2):  # the second round takes away what the first one rounded
        missing = totals - contributions.sum(axis=2)
        sizes = np.abs(contributions)
        whole = sizes.sum(axis=2, keepdims=True)
        even = np.full_like(sizes, 1.0 / sizes.shape[2])
        shares = np.divide(sizes, whole, out=even, where=whole > 0)
        contributions += shares * missing[:, :, None]


def along(function: Differentiable, start: Matrix, end: Matrix) -> Matrix:
    """Return what each column adds to a function on the straight way between two tiles, (d, 256).

    As `integrated_gradients`, of a function with one value, but every row has a baseline of its own:
    value(end) = value(start) + sum of the columns' parts, to rounding.

    Parameters
    ----------
    function : Differentiable
        (d, 256) -> (1, 256).
    start, end : ndarray of shape (d, 256)
    """
    away = end - start
    parts = np.zeros_like(away)
    for at, weight in zip(_AT, _WEIGHTS, strict=True):
        value, back = function.pullback(start + at * away)
        parts += weight * back(np.ones_like(value))
    parts *= away
    totals = function.pullback(end)[0] - function.pullback(start)[0]
    for _ in range(2):  # the second round takes away what the first one rounded
        missing = totals - np.add.reduce(parts, axis=0, keepdims=True)
        sizes = np.abs(parts)
        whole = np.add.reduce(sizes, axis=0, keepdims=True)
        even = np.full_like(sizes, 1.0 / len(sizes))
        parts += missing * np.divide(sizes, whole, out=even, where=whole > 0)
    return parts


def completeness(function: Differentiable, rows: Matrix, baseline: Scores) -> Scores:
    """Return what the quadrature leaves open of each row's values, as a share of what it explains, (n,)."""
    totals = values_at(function, rows) - values_at(function, baseline[None])[0]
    found = _integrals(function, rows, baseline)
    missing = np.abs(totals - found.sum(axis=2)).sum(axis=1)
    shares: Scores = missing / np.maximum(np.abs(found).sum(axis=(1, 2)), 1e-300)
    return shares
