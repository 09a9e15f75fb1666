"""The compiled inner loop of the normaliser."""

import math

import numpy as np
import numpy.typing as npt

from pipeline.features.compiled import compiled

Floats = npt.NDArray[np.float64]

LOGARITHMS: Floats = np.array([math.log1p(count) for count in range(16_384)])
"""Most features are counts, and most counts are small: a look here is a tenth of a logarithm.

Of the C library, as in the compiled loop: numpy's own differs in the last bits from CPU to CPU.
"""

BLOCK = 128
"""Rows worked on at a time: so few that what they fill stays in the cache."""


@compiled
def scale(
    values: npt.NDArray[np.float32],
    logs: npt.NDArray[np.bool_],
    logarithms: Floats,
    centres: Floats,
    scales: Floats,
    limit: float,
    places: npt.NDArray[np.int64],
    out: Floats,
) -> None:
    """Write (t(v) - centre) / scale of each value, cut at +-limit, to its place in a matrix.

    Parameters
    ----------
    values : ndarray of shape (k, n), float32
        Finite; a row a feature.
    logs : ndarray of shape (k,)
        Where t is sign(v) log1p(|v|); elsewhere it is v.
    logarithms : ndarray
        log1p of 0, 1, 2 ...
    centres, scales, places : ndarray of shape (k,)
        Of each feature; its column in `out`.
    out : ndarray of shape (n, d)
        Filled in the columns of `places`.
    """
    k, n = values.shape
    for start in range(0, n, BLOCK):
        for j in range(k):
            for i in range(start, min(start + BLOCK, n)):
                value: float = np.float64(values[j, i])  # float() would keep the single precision
                if logs[j]:
                    size = abs(value)
                    whole = int(min(size, logarithms.size - 1.0))
                    moved = logarithms[whole] if whole == size else math.log1p(size)
                    value = math.copysign(moved, value)
                scaled = (value - centres[j]) / scales[j]
                out[i, places[j]] = min(max(scaled, -limit), limit)
