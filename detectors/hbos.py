"""Histograms: how rare a flow's values are, column by column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from detectors.base import Matrix, Scores, State
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole
from detectors.parts.columns import ByColumn
from detectors.parts.sum import Arrays, SumOfParts, summed
from detectors.steps import Steps

UNBOUNDED = 1e9
"""A cap that no bin reaches."""

Histogram = tuple[Scores, Scores]
"""Points that cut the line into intervals, and the term in each of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Histograms:
    """A histogram of each column, as the terms in its bins."""

    steps: Steps

    def by_column(self, tile: Matrix) -> Matrix:
        """Return each column's term."""
        return self.steps(tile)

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the sum over the columns."""
        return summed(self.steps(tile))

    def arrays(self) -> Arrays:
        """Return the histograms."""
        return self.steps.arrays("histogram")


def frequencies(column: Scores, n_bins: int) -> Histogram:
    """Return -log of the share of rows in each bin; every bin, and outside, has a row more than counted.

    A column of few values gets a bin for each of them, others bins of equal width around equal steps.
    """
    values = np.unique(column)
    edges = _around(values if values.size <= n_bins else np.linspace(values[0], values[-1], n_bins))
    counts = np.diff(np.concatenate([[0], np.searchsorted(np.sort(column), edges[1:], side="right")]))
    shares = (np.concatenate([[0], counts, [0]]) + 1) / (column.size + counts.size + 1)
    return edges, -np.log(shares)


def _around(values: Scores) -> Scores:
    """Return edges half-way between values, and as far from the first and the last one."""
    if values.size == 1:
        reach = max(1e-9, 1e-9 * abs(float(values[0])))
        return np.array([values[0] - reach, values[0] + reach])
    middles = (values[:-1] + values[1:]) / 2
    first, last = values[0] - (middles[0] - values[0]), values[-1] + (values[-1] - middles[-1])
    return np.concatenate([[first], middles, [last]])


def densities(column: Scores, n_bins: int, alpha: float, tolerance: float) -> Histogram:
    """Return -log2 of the density in each bin plus `alpha`, as PyOD does.

    The outer bins reach further by the share `tolerance` of their width; outside, the least density counts.
    """
    heights, edges = np.histogram(column, bins=n_bins, density=True)
    terms = -np.log2(heights + alpha)
    reach = tolerance * (edges[1] - edges[0])
    points = np.concatenate([[edges[0] - reach], edges[1:-1], [edges[-1] + reach]])
    return points, np.concatenate([[terms.max()], terms, [terms.max()]])


@dataclass(kw_only=True, eq=False)
class HBOS(ModelDetector):
    """Score a flow by how rare its values are in the histograms of the normal flows, column by column.

    The score is the sum of -log(height of the bin) over the columns [1]_: what a model would give that takes
    the columns for independent. By default the heights are shares of rows, with one row more than counted in
    each bin, and columns of few values have a bin for each.

    `variant="paper"` is the paper's histogram of equal widths. The paper says nothing of empty bins and of
    values outside; they are as in PyOD [2]_, to whose scores it is equal: densities plus `alpha`, and the
    least of them outside. PyOD's `decision_function` searches the bins of whole batches, but gives each row
    the same score in any of them.

    Known weakness: a row of usual values in an unusual combination passes; densities depend on the units of
    a column. And outside the bins each value is as rare as any other: the default adds the squares of how
    far a column lies outside `cap`, the score then being counted in its standard deviations on held-out
    rows; the paper's does not.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    n_bins : int
        Bins of a column. The paper advises the root of the number of rows; PyOD has 10.
    heights : {"frequency", "density"}
        Shares of rows with a pseudo-count, or densities with a regulariser.
    alpha : float
        Density: what is added to each.
    tolerance : float
        Density: how far the outer bins reach beyond the training rows, in bin widths.
    beyond : bool
        Whether what lies outside the bounds counts.
    cap : float
        Where outside begins: so far beyond the range of the training rows, in units of the column.

    References
    ----------
    .. [1] Goldstein & Dengel (2012), Histogram-based outlier score (HBOS), KI-2012 poster track, 59-63.
    .. [2] PyOD, pyod.models.hbos.
    """

    variant: str = "stable"
    n_bins: int = BY_VARIANT
    heights: str = BY_VARIANT
    alpha: float = 0.1
    tolerance: float = 0.5
    beyond: bool = BY_VARIANT
    cap: float = 3.0

    name = "hbos"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {"n_bins": 20, "heights": "frequency", "beyond": True},
        "paper": {"n_bins": 10, "heights": "density", "beyond": False},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        whole("n_bins", self.n_bins, least=2)
        one_of("heights", self.heights, ["frequency", "density"])
        between("alpha", self.alpha, 0.0, 1.0)
        between("tolerance", self.tolerance, -1e-300, 1.0)
        one_of("beyond", self.beyond, [True, False])
        between("cap", self.cap, 0.0, 1e12)

    def learn(self, data: Training) -> SumOfParts:
        """Count the normal rows in bins; held-out rows give the scale of the sum."""
        inputs = Inputs.of(data.normal, cap=self.cap if self.beyond else UNBOUNDED)
        normal = inputs.matrix(data.normal)
        data.progress("histograms", 0.0)
        histograms = Histograms(Steps.of([self._histogram(column) for column in normal.T], side="left"))
        part = ByColumn.of(histograms, typical(normal), inputs.matrix(data.held_out), beyond=self.beyond)
        data.progress("histograms", 1.0)
        return SumOfParts(inputs, [part], KIND[self.heights])

    def _histogram(self, column: Scores) -> Histogram:
        if self.heights == "frequency":
            return frequencies(column, self.n_bins)
        return densities(column, self.n_bins, self.alpha, self.tolerance)

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        d = inputs.n_columns
        histograms = Histograms(Steps.restored(state, "histogram", d, side="left"))
        part = ByColumn.restored(state, histograms, d, beyond=self.beyond)
        return SumOfParts(inputs, [part], KIND[self.heights])


KIND = {"frequency": "negative_log_share", "density": "negative_log_density"}
