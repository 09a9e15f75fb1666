"""How far traffic has moved from what a model was trained on, as distances with a meaning of their own.

Effect sizes, not tests: the flows of an hour depend on each other, in bursts and by host, so a p-value
that takes them for independent would call every busy hour a drift.
"""

import numpy as np
import numpy.typing as npt

from detectors.base import Scores

Counts = npt.NDArray[np.int64]
"""Rows by bin, shape (..., b)."""

Edges = npt.NDArray[np.float32]
"""Upper ends of bins, ascending, the last bin open; inf where there are fewer."""

QUANTILES = 10
"""A feature's bins hold so many equal parts of its training values, as is usual for the index."""

N_EDGES = QUANTILES
"""Nine quantiles, and one edge below the smallest value: a constant has rows on neither side of it."""

SHARE_FLOOR = 1e-3
"""An empty bin counts as this share, so that one row in it does not decide: the index stays below 14."""

UNIFORM_BINS = 20


def stability_index(observed: Counts, reference: Counts) -> Scores:
    """Return the population stability index [1]_ of each feature.

    The sum over the bins of (p - q) log(p / q), for shares p observed and q in the reference: both
    Kullback-Leibler divergences together. By convention, below 0.1 is none and above 0.25 much [1]_;
    of n independent rows in b bins, chance alone gives about (b - 1) / n.

    Parameters
    ----------
    observed, reference : ndarray of shape (k, b)
        Rows of each of k features by bin; a feature without rows on one side has index 0.

    Returns
    -------
    ndarray of shape (k,), float64
        At least 0.

    References
    ----------
    .. [1] Siddiqi (2006), Credit Risk Scorecards, chapter 8.

    Examples
    --------
    >>> stability_index(np.array([[50, 50], [90, 10]]), np.array([[500, 500], [500, 500]])).round(3)
    array([0.   , 0.879])
    """
    p, q = (np.maximum(_shares(counts), SHARE_FLOOR) for counts in (observed, reference))
    index: Scores = ((p - q) * np.log(p / q)).sum(axis=-1)
    known = (observed.sum(axis=-1) > 0) & (reference.sum(axis=-1) > 0)
    return np.where(known, index, 0.0)


def _shares(counts: Counts) -> Scores:
    shares: Scores = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return shares


def uniform_counts(p_values: Scores, alpha: float) -> Counts:
    """Return how many of the p-values above `alpha` lie in each of 20 equal parts of (alpha, 1].

    Examples
    --------
    >>> uniform_counts(np.array([0.001, 0.1, 0.5, 1.0]), 0.01).nonzero()[0]
    array([ 1,  9, 19])
    """
    if alpha >= 1.0:
        return np.zeros(UNIFORM_BINS, dtype=np.int64)
    inside = p_values[p_values > alpha]
    bins = np.ceil((inside - alpha) * (UNIFORM_BINS / (1.0 - alpha))).astype(np.int64) - 1
    return np.bincount(np.clip(bins, 0, UNIFORM_BINS - 1), minlength=UNIFORM_BINS)


def distance_to_uniform(counts: Counts) -> float:
    """Return the largest gap between the distribution of binned values and the uniform one.

    The Kolmogorov-Smirnov distance at the ends of the bins: 0 where all bins are equally full, 0.95 at
    most. Of n independent values, chance alone gives about 0.6 / sqrt(n).

    Examples
    --------
    >>> distance_to_uniform(np.array([5, 5, 5, 5])), distance_to_uniform(np.array([20, 0, 0, 0]))
    (0.0, 0.75)
    """
    n = counts.sum()
    if not n:
        return 0.0
    steps = np.arange(1, counts.size + 1) / counts.size
    return float(np.abs(np.cumsum(counts) / n - steps).max())


def quantile_edges(values: npt.NDArray[np.float32]) -> Edges:
    """Return the edges of bins that hold equal parts of `values`, shape (10,); equal edges are one.

    Examples
    --------
    >>> quantile_edges(np.arange(1, 101, dtype=np.float32))[1:]
    array([10., 20., 30., 40., 50., 60., 70., 80., 90.], dtype=float32)
    """
    ends = np.arange(1, QUANTILES) / QUANTILES
    below = np.nextafter(values.min(), np.float32(-np.inf))
    # Values that occur, so that ties fall on one side for certain.
    edges = np.unique(np.append(np.quantile(values, ends, method="inverted_cdf"), below))
    return padded(edges)


def padded(edges: npt.NDArray[np.float32]) -> Edges:
    """Return at most ten edges with inf in the places that are left."""
    found = np.full(N_EDGES, np.inf, dtype=np.float32)
    found[: edges.size] = edges
    return found
