"""Empirical tails: how few normal flows have a value as low, or as high, in each column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from detectors.base import Matrix, Scores, State
from detectors.errors import StateError
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole
from detectors.parts.columns import ByColumn
from detectors.parts.sum import Arrays, SumOfParts, summed
from detectors.state import array
from detectors.steps import Steps

KIND = "tail_log_probability"


@dataclass(frozen=True, slots=True, eq=False)
class Tails:
    """-log of the share of normal rows that are as low (lower) or as high (upper), column by column.

    Parameters
    ----------
    lower, upper : Steps
    skew : ndarray of shape (d,)
        Sign of each column's skewness: which tail the third aggregate takes.
    tail : {"column", "row"}
        Whether each column takes its longest tail, or each row its largest of three sums.
    """

    lower: Steps
    upper: Steps
    skew: Scores
    tail: str

    @classmethod
    def of(cls, rows: Matrix, max_points: int, tail: str) -> "Tails":
        """Return the tails of normal rows."""
        found = [_tails(column, max_points) for column in rows.T]
        lower = Steps.of([(points, low) for points, low, _ in found], side="right")
        upper = Steps.of([(points, high) for points, _, high in found], side="left")
        return cls(lower, upper, np.sign(_skewness(rows)), tail)

    def by_column(self, tile: Matrix) -> Matrix:
        """Return each column's term."""
        low, high = self.lower(tile), self.upper(tile)
        auto = np.where(self.skew[:, None] < 0, low, high)
        if self.tail == "column":
            # PyOD takes both tails of a column without any skewness.
            auto = np.where(self.skew[:, None] == 0, low + high, auto)
            longest: Matrix = np.maximum(np.maximum(low, high), auto)
            return longest
        sums = np.concatenate([summed(low), summed(high), summed(auto)])
        taken: Matrix = np.choose(sums.argmax(axis=0), [low, high, auto])
        return taken

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the sum over the columns."""
        return summed(self.by_column(tile))

    def arrays(self) -> Arrays:
        """Return both tails and the signs."""
        return {**self.lower.arrays("lower"), **self.upper.arrays("upper"), "skew": self.skew}

    @classmethod
    def restored(cls, state: State, n_columns: int, tail: str) -> "Tails":
        """Return what a state holds."""
        skew = array(state, "skew", n_columns)
        if not np.isin(skew, (-1.0, 0.0, 1.0)).all():
            raise StateError("array 'skew' holds other numbers than signs; train the model again")
        lower = Steps.restored(state, "lower", n_columns, side="right")
        return cls(lower, Steps.restored(state, "upper", n_columns, side="left"), skew, tail)


def _skewness(rows: Matrix) -> Scores:
    """Return the third standardised moment of each column; zero where the column is constant."""
    centred = rows - rows.mean(axis=0)
    second, third = (centred**2).mean(axis=0), (centred**3).mean(axis=0)
    # As SciPy: what is below this share of the mean is rounding.
    alive = second > (np.finfo(np.float64).eps * np.abs(rows.mean(axis=0))) ** 2
    skewness: Scores = np.where(alive, third, 0.0)
    return skewness


def _tails(column: Scores, max_points: int) -> tuple[Scores, Scores, Scores]:
    """Return the points of a column, and -log of both tails in the intervals between them.

    The row asked about counts as one of the normal rows, so no tail is empty.
    """
    n = column.size
    points, counts = np.unique(column, return_counts=True)
    at_most = np.cumsum(counts)
    at_least = n - at_most + counts
    kept = _kept(points.size, max_points)
    low = np.concatenate([[0], at_most[kept]])
    high = np.concatenate([at_least[kept], [0]])
    return points[kept], -np.log((1 + low) / (n + 1)), -np.log((1 + high) / (n + 1))


def _kept(size: int, most: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return which of a column's different values are kept: all at both ends, some in between."""
    if size <= most:
        return np.arange(size)
    end = most // 4
    between_ = np.linspace(end, size - end - 1, most - 2 * end).round().astype(np.intp)
    return np.unique(np.concatenate([np.arange(end), between_, np.arange(size - end, size)]))


@dataclass(kw_only=True, eq=False)
class ECOD(ModelDetector):
    """Score a flow by how far out in the tails of the normal flows its values lie, column by column.

    A column's term is minus the logarithm of the share of normal rows with a value as low, or as high
    (empirical cumulative distributions, [1]_). There is nothing to tune and nothing to train.

    By default each column takes the longest of its tails, as in PyOD [2]_. `variant="paper"` is Algorithm 1
    of the paper: over all columns the lower tails, the upper tails, or for each column the tail on the side
    of its skewness are summed, and the largest of the three sums counts. PyOD's `decision_function` ranks
    the rows that it is asked about among the training rows, and so depends on the batch; here, each row is
    ranked alone, which is what PyOD gives for batches of one row.

    Known weakness: columns are looked at one by one, so a row of usual values in an unusual combination
    passes. And a tail ends: beyond the last normal row each value is as unlikely as any other. The default
    adds the squares of how far a column lies outside `cap`, the score then being counted in its standard
    deviations on held-out rows; the paper's does not.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    tail : {"column", "row"}
        Whether the longest tail is taken in each column, or the largest sum in each row.
    beyond : bool
        Whether what lies outside the bounds counts.
    max_points : int
        Different values kept of a column. With more, the quarter at each end is exact, and in between
        shares are exact to one part in half as many: 1,000 keep a model of 122 columns below 4 MB.
    cap : float
        Where outside begins: so far beyond the range of the training rows, in units of the column.

    References
    ----------
    .. [1] Li, Zhao, Hu, Botta, Ionescu & Chen (2022), ECOD: unsupervised outlier detection using empirical
       cumulative distribution functions, IEEE TKDE, Algorithm 1.
    .. [2] PyOD, pyod.models.ecod.
    """

    variant: str = "stable"
    tail: str = BY_VARIANT
    beyond: bool = BY_VARIANT
    max_points: int = 1000
    cap: float = 3.0

    name = "ecod"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {"tail": "column", "beyond": True},
        "paper": {"tail": "row", "beyond": False},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        one_of("tail", self.tail, ["column", "row"])
        one_of("beyond", self.beyond, [True, False])
        whole("max_points", self.max_points, least=8)
        between("cap", self.cap, 0.0, 1e12)

    def learn(self, data: Training) -> SumOfParts:
        """Count the normal rows' values; held-out rows give the scale of the sum."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal = inputs.matrix(data.normal)
        data.progress("tails", 0.0)
        tails = Tails.of(normal, self.max_points, self.tail)
        part = ByColumn.of(tails, typical(normal), inputs.matrix(data.held_out), beyond=self.beyond)
        data.progress("tails", 1.0)
        return SumOfParts(inputs, [part], KIND)

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        d = inputs.n_columns
        tails = Tails.restored(state, d, self.tail)
        return SumOfParts(inputs, [ByColumn.restored(state, tails, d, beyond=self.beyond)], KIND)
