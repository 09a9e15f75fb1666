"""Rows as a recurrent network takes them: principal components, and windows of them in tiles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Scores, State
from detectors.histories import Places, laid_out
from detectors.recurrent import Steps
from detectors.state import array
from detectors.tiles import ROWS

FLAT = 1e-6
"""A component whose spread is below this share of the largest one's is flat: the rest is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Principal components of rows, scaled: p = axes (u - mean) / spread.

    Parameters
    ----------
    mean : ndarray of shape (d,)
    axes : ndarray of shape (p, d)
        Orthonormal rows, the one along the largest variance first.
    spread : ndarray of shape (p,)
    """

    mean: Scores
    axes: Matrix
    spread: Scores

    @classmethod
    def of(cls, rows: Matrix, n_components: int, *, largest: bool) -> Self:
        """Return those of some rows.

        Parameters
        ----------
        rows : ndarray of shape (n, d)
        n_components : int
            At most d of them are taken.
        largest : bool
            Whether the spread is the largest absolute value, so that all are in [-1, 1]; else it is the
            standard deviation.
        """
        mean = rows.mean(axis=0)
        centred = rows - mean
        _, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
        axes = vectors.T[::-1][: min(n_components, rows.shape[1])]
        axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
        points = centred @ axes.T
        spread = np.abs(points).max(axis=0) if largest else points.std(axis=0)
        spread = np.where(spread > FLAT * max(float(spread.max()), FLAT), spread, 1.0)
        return cls(mean, np.ascontiguousarray(axes), spread)

    @property
    def n_points(self) -> int:
        """Number p of components."""
        return self.spread.size

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the components of a tile of rows; (..., d, 256) -> (..., p, 256)."""
        points: Matrix = np.matmul(self.axes, tile - self.mean[:, None])
        points /= self.spread[:, None]
        return points

    def back(self, points: Matrix) -> Matrix:
        """Return the rows of a tile of components: (p, 256) -> (d, 256)."""
        rows: Matrix = np.matmul(self.axes.T, points * self.spread[:, None])
        rows += self.mean[:, None]
        return rows

    def pulled(self, gradient: Steps) -> Steps:
        """Return the gradient by rows from that by components."""
        result: Steps = np.matmul(self.axes.T, gradient / self.spread[:, None])
        return result

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its numbers for a `State`."""
        return {"component_mean": self.mean, "component_axes": self.axes, "component_spread": self.spread}

    @classmethod
    def restored(cls, state: State, n_columns: int) -> Self:
        """Return what a state holds."""
        spread = array(state, "component_spread", None)
        axes = np.ascontiguousarray(array(state, "component_axes", spread.size, n_columns))
        return cls(array(state, "component_mean", n_columns), axes, spread)


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Rows, and which of them follow one another.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    windows : ndarray of shape (m, length)
        Numbers of rows.
    """

    rows: Matrix
    windows: Places

    @classmethod
    def of(cls, rows: Matrix, length: int, sources: Places | None = None) -> Self:
        """Return rows with all windows of them, or with those within sources, one behind each row."""
        if sources is not None:
            return cls(rows, laid_out(sources, length - 1).windows(length - 1))
        return cls(rows, np.arange(len(rows) - length + 1)[:, None] + np.arange(length))

    def every(self, stride: int) -> Self:
        """Return every so manieth window."""
        return replace(self, windows=self.windows[::stride])

    def beside(self, others: Self) -> Self:
        """Return these and others; no window reaches from one to the other."""
        windows = np.concatenate([self.windows, others.windows + len(self.rows)])
        return replace(self, rows=np.concatenate([self.rows, others.rows]), windows=windows)

    def made(self, rows: Matrix) -> Self:
        """Return the same windows of what was made of the rows."""
        return replace(self, rows=rows)


def by_windows(points: Matrix, length: int, function: Callable[[Steps], Matrix], width: int) -> Matrix:
    """Return what `function` makes of each window of rows that follow one another.

    Parameters
    ----------
    points : ndarray of shape (length - 1 + n, p)
    length : int
        Rows of a window.
    function : callable
        (length, p, 256) -> (width, 256), each window for itself.

    Returns
    -------
    ndarray of shape (n, width)
        Row i belongs to the window that begins with row i.
    """
    n = len(points) - length + 1
    columns = np.zeros((points.shape[1], len(points) + ROWS))
    columns[:, : len(points)] = points.T
    result = np.empty((n, width))
    for first in range(0, n, ROWS):
        steps = np.stack([columns[:, first + t : first + t + ROWS] for t in range(length)])
        count = min(ROWS, n - first)
        result[first : first + count] = function(steps)[:, :count].T
    return result


def windows_of(rows: Matrix, length: int) -> Matrix:
    """Return each window of rows, step after step, as one row: (length - 1 + n, d) -> (n, length * d)."""
    if len(rows) < length:
        return np.empty((0, length * rows.shape[1]))
    views = np.lib.stride_tricks.sliding_window_view(rows, length, axis=0)
    return np.ascontiguousarray(views.transpose(0, 2, 1)).reshape(len(views), length * rows.shape[1])
