"""Rows in fixed tiles, so that the bits of a row's result never depend on its neighbours.

A matrix product picks its kernel by the shape of its operands: the same row may come out with
another last bit alone than among others. Here every product sees 256 rows, missing ones are
zeros, and the reductions over a row run along the first axis, one row of the tile after another.
Bits then depend on the row, the model, the build and the type of CPU alone.
"""

from collections.abc import Callable, Iterator

import numpy as np

from detectors.base import Matrix, Scores

ROWS = 256
"""Rows of a tile."""

LARGEST = 1e100
"""Larger values are cut to this before scoring: squares and their sums stay finite."""


def tiles(x: Matrix) -> Iterator[tuple[slice, Matrix]]:
    """Yield the place of each tile in `x`, and the tile: columns first, a last row of ones.

    The tile, shape (d + 1, 256), is overwritten by the next one.
    """
    n, d = x.shape
    buffer = np.zeros((ROWS, d + 1))
    buffer[:, d] = 1.0
    for start in range(0, n, ROWS):
        count = min(ROWS, n - start)
        buffer[count:, :d] = 0.0
        np.clip(x[start : start + count], -LARGEST, LARGEST, out=buffer[:count, :d])
        yield slice(start, start + count), buffer.T


def by_tiles(x: Matrix, function: Callable[[Matrix], Matrix], width: int) -> Matrix:
    """Return (n, width): what `function` makes of each tile; it maps (d + 1, 256) to (width, 256)."""
    result = np.empty((x.shape[0], width))
    for rows, tile in tiles(x):
        result[rows] = function(tile)[:, : rows.stop - rows.start].T
    return result


def elementwise(values: Scores, function: Callable[[Scores], Scores]) -> Scores:
    """Apply `function` element by element; the bits do not depend on an element's place."""
    padded = np.zeros(-(-values.size // ROWS) * ROWS)
    padded[: values.size] = values
    return function(padded)[: values.size]


class Projection:
    """The affine map y = W x + c of rows, in tiles.

    Parameters
    ----------
    weights : ndarray of shape (k, d)
        W.
    constants : ndarray of shape (k,)
        c.
    """

    def __init__(self, weights: Matrix, constants: Scores) -> None:
        self.weights = weights
        self.constants = constants
        self._stacked = np.ascontiguousarray(np.column_stack([weights, constants]))

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return y of a tile, shape (k, 256)."""
        y: Matrix = np.matmul(self._stacked, tile)
        return y

    def squared_norms(self, tile: Matrix) -> Matrix:
        """Return the sum of y_k^2 of each row of a tile, shape (1, 256)."""
        y = self.on_tile(tile)
        np.multiply(y, y, out=y)
        total: Matrix = np.add.reduce(y, axis=0, keepdims=True)
        return total

    def __call__(self, x: Matrix) -> Matrix:
        """Return y of each row, shape (n, k)."""
        return by_tiles(x, self.on_tile, self.constants.size)

    def contributions(self, x: Matrix) -> Matrix:
        """Return what each column adds to each y, shape (n, k, d); with c they sum to y."""
        product: Matrix = np.clip(x, -LARGEST, LARGEST)[:, None, :] * self.weights[None, :, :]
        return product
