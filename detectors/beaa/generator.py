"""The generator G of the autoencoder, and its inverse R.

Noise nodes are roots, attribute nodes are leaves, and there are no other arcs: G is a factor
analysis model, x = offset + B z + e with z ~ N(0, I) and e ~ N(0, diag psi).
"""

from dataclasses import dataclass

import numpy as np

from detectors.base import Matrix, Scores
from detectors.gaussian import LOG_2PI


@dataclass(frozen=True, slots=True, eq=False)
class Inverse:
    """R: the noise expected for a row, z = offset + weights x."""

    offset: Scores  # (m,)
    weights: Matrix  # (m, d)


@dataclass(frozen=True, slots=True, eq=False)
class Generator:
    """G: m noise nodes, each with arcs to attributes; no other arcs."""

    offset: Scores  # (d,)
    loadings: Matrix  # (d, m), the paper's beta
    psi: Scores  # (d,), what the noise nodes leave unexplained

    @property
    def covariance(self) -> Matrix:
        """Covariance of the generated rows, B B' + diag psi."""
        result: Matrix = self.loadings @ self.loadings.T + np.diag(self.psi)
        return result

    @property
    def communality(self) -> float:
        """Share of the generated variance that comes from the noise nodes, in [0, 1]."""
        return float(np.sum(self.loadings**2) / np.trace(self.covariance))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
        """Return noise (n, m) and the rows (n, d) generated from it."""
        z = rng.standard_normal((n, self.loadings.shape[1]))
        e = rng.standard_normal((n, self.psi.size))
        return z, self.offset + z @ self.loadings.T + e * np.sqrt(self.psi)

    def logl(self, x: Matrix) -> Scores:
        """Return the log-likelihood of each row, (n,)."""
        lower = np.linalg.cholesky(self.covariance)
        white = (x - self.offset) @ np.linalg.inv(lower).T
        constant = np.log(np.diag(lower)).sum() + 0.5 * LOG_2PI * self.psi.size
        result: Scores = -0.5 * np.einsum("ij,ij->i", white, white) - constant
        return result

    def inverse(self) -> Inverse:
        """Return the best R there is: the posterior mean of the noise, in closed form."""
        scaled = self.loadings.T / self.psi
        precision = np.eye(self.loadings.shape[1]) + scaled @ self.loadings
        weights: Matrix = np.asarray(np.linalg.solve(precision, scaled), dtype=np.float64)
        return Inverse(-weights @ self.offset, weights)

    def named(self, inverse: Inverse, *, rotate: bool) -> tuple["Generator", Inverse]:
        """Return the same model with noise directions that have a stable meaning.

        Any rotation of the noise gives the same distribution of rows. The varimax rotation makes
        each direction load on few attributes; the largest loading is made positive, and directions
        are sorted by the variance they explain. `rotate` is for dense loadings: sparse arcs fix
        the directions themselves.
        """
        turn = varimax(self.loadings) if rotate else np.eye(self.loadings.shape[1])
        loadings = self.loadings @ turn
        largest = loadings[np.abs(loadings).argmax(axis=0), np.arange(turn.shape[0])]
        turn = turn * np.where(largest < 0, -1.0, 1.0)
        turn = turn[:, np.argsort(-np.sum(loadings**2, axis=0), kind="stable")]
        generator = Generator(self.offset, self.loadings @ turn, self.psi)
        return generator, Inverse(turn.T @ inverse.offset, turn.T @ inverse.weights)


def varimax(loadings: Matrix, *, max_steps: int = 500, tolerance: float = 1e-10) -> Matrix:
    """Return the rotation Q, (m, m), for which the squared entries of `loadings @ Q` vary most.

    References
    ----------
    .. [1] Kaiser (1958), Psychometrika 23(3), 187-200.
    """
    d, m = loadings.shape
    turn = np.eye(m)
    before = 0.0
    for _ in range(max_steps):
        turned = loadings @ turn
        target = turned**3 - turned * (np.sum(turned**2, axis=0) / d)
        left, values, right = np.linalg.svd(loadings.T @ target)
        turn = left @ right
        if values.sum() <= before * (1 + tolerance):
            break
        before = float(values.sum())
    return turn
