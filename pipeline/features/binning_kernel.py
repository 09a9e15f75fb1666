"""The compiled inner loop that counts feature values by bin."""

import numpy as np
import numpy.typing as npt

from pipeline.features.compiled import compiled


@compiled
def count_above(
    values: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    edges: npt.NDArray[np.float32],
    above: npt.NDArray[np.int64],
) -> None:
    """Add to `above` how many values of each feature lie above each of its edges.

    Parameters
    ----------
    values : ndarray of shape (k, n), float32
        A row a feature.
    rows : ndarray of shape (m,)
        Which of the n values count.
    edges : ndarray of shape (k, e), float32
    above : ndarray of shape (k, e)
        Added to.
    """
    chosen = np.empty(rows.size, dtype=np.float32)
    for j in range(values.shape[0]):
        for i in range(rows.size):
            chosen[i] = values[j, rows[i]]
        for e in range(edges.shape[1]):
            edge, count = edges[j, e], 0
            for i in range(rows.size):  # one edge at a time: so the compiler compares eight values at once
                count += chosen[i] > edge
            above[j, e] += count
