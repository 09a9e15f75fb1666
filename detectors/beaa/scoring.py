"""The trained autoencoder as affine maps: deviations, the score's quadratic forms, expected values.

R and G are linear, so a row's noise values z = R(x) and its residuals r = x - G(R(x)) are affine in
x, and so are their whitened values, the deviations. The paper's scores are the norms of z and of r
and their product. An ensemble's squared norm is the mean of its members': again a quadratic form in
x, held as the triangular factor of the stacked maps, so that an ensemble of any size scores at the
price of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.base import Matrix, Scores
from detectors.beaa.generator import Generator, Inverse
from detectors.tiles import Projection

Autoencoder = tuple[Generator, Inverse]

NO_VARIANCE = 1e-30
"""Variances of columns of unit variance below this are rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """The units in which a model was trained: (x - centre) / spread."""

    centre: Scores
    spread: Scores

    @classmethod
    def of(cls, normal: Matrix) -> "Scale":
        """Return mean and standard deviation of the columns; 1 for constant ones."""
        # Relative to the size of the values: the deviation of a constant column is rounding.
        spread = normal.std(axis=0)
        alive = spread > 1e-9 * np.maximum(1.0, np.abs(normal).max(axis=0))
        return cls(normal.mean(axis=0), np.where(alive, spread, 1.0))

    def apply(self, x: Matrix) -> Matrix:
        """Return rows in the model's units."""
        result: Matrix = (x - self.centre) / self.spread
        return result

    def fold(self, weights: Matrix, constants: Scores) -> Projection:
        """Return the map of rows in their own units that equals this one of rows in model units."""
        outer = weights / self.spread
        return Projection(outer, constants - outer @ self.centre)


def raw_values(autoencoder: Autoencoder) -> tuple[Matrix, Scores]:
    """Return the map from a row to its noise values, then its residuals: weights and constants."""
    generator, inverse = autoencoder
    through = np.eye(generator.psi.size) - generator.loadings @ inverse.weights
    shift = -generator.offset - generator.loadings @ inverse.offset
    return np.vstack([inverse.weights, through]), np.concatenate([inverse.offset, shift])


def whitened_values(
    autoencoder: Autoencoder, held_out: Matrix, whitening: str, prior_rows: int
) -> tuple[Matrix, Scores]:
    """Return the map from a row to its deviations, in standard deviations of held-out rows.

    Mean and covariance of the held-out rows are blended with those that the generator itself
    implies, which count as `prior_rows` rows: a column that never moved in the held-out rows, or a
    single held-out row, then gives a finite scale. Noise values and residuals are whitened apart:
    "diagonal" scales each by itself; "full" also decorrelates them, by the symmetric root, which
    keeps each value as close to its node as can be.
    """
    weights, constants = raw_values(autoencoder)
    generator = autoencoder[0]
    values = held_out @ weights.T + constants
    implied = weights @ generator.covariance @ weights.T
    share = len(values) / (len(values) + prior_rows)
    mean = share * values.mean(axis=0)
    centred = values - mean
    covariance = share * (centred.T @ centred) / len(values) + (1 - share) * implied
    m = generator.loadings.shape[1]
    root = np.zeros_like(covariance)
    for block in (slice(0, m), slice(m, None)):
        root[block, block] = _inverse_root(covariance[block, block], diagonal=whitening != "full")
    return root @ weights, root @ (constants - mean)


def _inverse_root(covariance: Matrix, *, diagonal: bool) -> Matrix:
    """Return C^-1/2; a value that never varies, such as noise without arcs, gets the factor zero."""
    if diagonal:
        return np.diag(_inverse_roots(np.diag(covariance)))
    values, vectors = np.linalg.eigh(covariance)
    # Below this share of the largest eigenvalue a direction is rounding, not variance.
    values = np.maximum(values, 1e-9 * values[-1])
    root: Matrix = (vectors * _inverse_roots(values)) @ vectors.T
    return root


def _inverse_roots(values: Scores) -> Scores:
    alive = values > NO_VARIANCE
    roots: Scores = np.where(alive, 1.0 / np.sqrt(np.where(alive, values, 1.0)), 0.0)
    return roots


def mean_square(maps: Sequence[tuple[Matrix, Scores]]) -> tuple[Matrix, Scores]:
    """Return one map whose squared norm is the mean of the squared norms of `maps`."""
    stacked = np.vstack([np.column_stack(each) for each in maps]) / np.sqrt(len(maps))
    factor: Matrix = np.asarray(np.linalg.qr(stacked, mode="r"), dtype=np.float64)
    d = maps[0][0].shape[1]
    return factor[:, :d], factor[:, d]


def expected_values(autoencoder: Autoencoder, scale: Scale) -> Projection:
    """Return the map from a row to what the generator would have expected, in the row's units."""
    generator, inverse = autoencoder
    weights = generator.loadings @ inverse.weights
    constants = generator.offset + generator.loadings @ inverse.offset
    folded = scale.fold(weights, constants)
    return Projection(scale.spread[:, None] * folded.weights, scale.centre + scale.spread * folded.constants)
