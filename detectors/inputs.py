"""Rows as networks take them: in the units of the training rows, and cut where no network has been."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Scores, State
from detectors.state import array

CONSTANT = 1e-9
"""A column whose spread is below this share of its values is constant: the rest is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """u = (x - centre) / spread, and its cut into [low, high].

    Networks have never seen anything far outside the training rows and answer there at random. So they
    are given the cut value, and how far a row lies outside is kept apart, for the score.

    Parameters
    ----------
    centre, spread : ndarray of shape (d,)
        Units of the training rows; spread is positive.
    low, high : ndarray of shape (d,)
        Bounds, in these units.
    """

    centre: Scores
    spread: Scores
    low: Scores
    high: Scores

    @classmethod
    def of(cls, normal: Matrix, *, scaling: Literal["standard", "minmax"] = "standard", cap: float) -> Self:
        """Return the units of normal rows.

        Parameters
        ----------
        normal : ndarray of shape (n, d)
        scaling : {"standard", "minmax"}
            Mean and standard deviation, or least value and range.
        cap : float
            How far beyond the normal rows' own range the networks are asked, in these units.
        """
        low, high = normal.min(axis=0), normal.max(axis=0)
        centre, spread = (
            (normal.mean(axis=0), normal.std(axis=0)) if scaling == "standard" else (low, high - low)
        )
        size = np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
        spread = np.where(spread > CONSTANT * size, spread, 1.0)
        return cls(centre, spread, (low - centre) / spread - cap, (high - centre) / spread + cap)

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.centre.size

    def units(self, tile: Matrix) -> Matrix:
        """Return u of a tile; a tile's last row, the ones, is left out: (d + 1, 256) -> (d, 256)."""
        result: Matrix = tile[: self.n_columns] - self.centre[:, None]
        result /= self.spread[:, None]
        return result

    def cut(self, units: Matrix) -> Matrix:
        """Return u within the bounds."""
        result: Matrix = np.clip(units, self.low[:, None], self.high[:, None])
        return result

    def matrix(self, x: Matrix) -> Matrix:
        """Return rows in these units within the bounds, (n, d): what networks are trained on."""
        result: Matrix = np.clip((x - self.centre) / self.spread, self.low, self.high)
        return result

    def rows(self, units: Matrix) -> Matrix:
        """Return rows of x from rows of u, (n, d)."""
        result: Matrix = units * self.spread + self.centre
        return result

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its numbers for a `State`."""
        return {"centre": self.centre, "spread": self.spread, "low": self.low, "high": self.high}

    @classmethod
    def restored(cls, state: State) -> Self:
        """Return what a state holds."""
        centre = array(state, "centre", None)
        return cls(centre, *(array(state, name, centre.size) for name in ("spread", "low", "high")))


def typical(rows: Matrix) -> Scores:
    """Return the row that lies nearest the columns' medians, (d,): explanations count from it.

    A row that exists: medians of yes/no columns together may be no flow at all.
    """
    middle = np.median(rows, axis=0)
    nearest: Scores = rows[np.abs(rows - middle).sum(axis=1).argmin()]
    return nearest.copy()
