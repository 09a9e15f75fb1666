"""Step functions, one a column, looked up in tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, State
from detectors.state import array

Side = Literal["left", "right"]
"""Which step a value on a point takes: the one below it ("left") or the one above it."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A value for each of the intervals that a column's points cut the line into.

    Columns with fewer points than others repeat their last one: nothing lies in between.

    Parameters
    ----------
    points : ndarray of shape (d, k)
        Ascending.
    values : ndarray of shape (d, k + 1)
    side : {"left", "right"}

    Examples
    --------
    >>> steps = Steps.of([([0.0], [1.0, 2.0]), ([0.0, 1.0], [3.0, 4.0, 5.0])], side="left")
    >>> steps(np.array([[0.0, 0.1], [0.1, 9.0]]))
    array([[1., 2.],
           [4., 5.]])
    """

    points: Matrix
    values: Matrix
    side: Side

    @classmethod
    def of(cls, columns: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, side: Side) -> "Steps":
        """Return the functions with these points and values, one pair a column."""
        pairs = [(np.asarray(points), np.asarray(values)) for points, values in columns]
        most = max(points.size for points, _ in pairs)
        points = [np.pad(points, (0, most - points.size), mode="edge") for points, _ in pairs]
        values = [np.pad(values, (0, most + 1 - values.size), mode="edge") for _, values in pairs]
        return cls(np.stack(points).astype(np.float64), np.stack(values).astype(np.float64), side)

    def __call__(self, tile: Matrix) -> Matrix:
        """Return the value of each element of a tile, (d, 256)."""
        found: Matrix = np.empty_like(tile)
        for out, column, points, values in zip(found, tile, self.points, self.values, strict=True):
            out[:] = values[np.searchsorted(points, column, side=self.side)]
        return found

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return its numbers for a `State`."""
        return {f"{name}.points": self.points, f"{name}.values": self.values}

    @classmethod
    def restored(cls, state: State, name: str, n_columns: int, *, side: Side) -> "Steps":
        """Return what a state holds under a name."""
        points = array(state, f"{name}.points", n_columns, None)
        return cls(points, array(state, f"{name}.values", n_columns, points.shape[1] + 1), side)
