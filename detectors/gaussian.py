"""Linear-Gaussian Bayesian networks as plain coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from detectors.base import Matrix, Scores
from detectors.errors import FitError

LOG_2PI = float(np.log(2 * np.pi))

Arc = tuple[int, int]
"""(parent, child), as column numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearGaussian:
    """The network x_i = intercept_i + sum_j coefficients[i, j] x_j + e_i, e_i ~ N(0, variances_i).

    Parameters
    ----------
    intercepts : ndarray of shape (d,)
    coefficients : ndarray of shape (d, d)
        Row: child, column: parent; zero where there is no arc. Acyclic.
    variances : ndarray of shape (d,)
        Positive.

    Examples
    --------
    >>> net = LinearGaussian(np.zeros(2), np.array([[0.0, 0.0], [2.0, 0.0]]), np.ones(2))
    >>> net.arcs, net.order
    ([(0, 1)], [0, 1])
    >>> net.residuals(np.array([[1.0, 2.5]]))
    array([[1. , 0.5]])
    """

    intercepts: Scores
    coefficients: Matrix
    variances: Scores

    @classmethod
    def saturated(cls, mean: Scores, covariance: Matrix) -> Self:
        """Return the network in which every earlier column is a parent: any Gaussian at all."""
        lower = np.linalg.cholesky(covariance)
        scale = np.diag(lower)
        unit = scale[:, None] * np.linalg.solve(lower, np.eye(scale.size))
        coefficients = np.tril(np.eye(scale.size) - unit, k=-1)
        return cls(mean - coefficients @ mean, coefficients, scale**2)

    @property
    def arcs(self) -> list[Arc]:
        """All (parent, child), sorted."""
        return sorted((int(j), int(i)) for i, j in np.argwhere(self.coefficients != 0))

    @property
    def order(self) -> list[int]:
        """The columns, parents before children."""
        return topological_order(self.arcs, self.variances.size)

    @property
    def mean(self) -> Scores:
        """The mean of each node, (d,)."""
        through = np.eye(self.variances.size) - self.coefficients
        return np.asarray(np.linalg.solve(through, self.intercepts), dtype=np.float64)

    def residuals(self, x: Matrix) -> Matrix:
        """Return x minus what each node's parents predict, (n, d)."""
        result: Matrix = x - self.intercepts - x @ self.coefficients.T
        return result

    def logl(self, x: Matrix) -> Scores:
        """Return the log-likelihood of each row, (n,); for training, scoring goes through tiles."""
        squares = self.residuals(x) ** 2 / self.variances
        result: Scores = -0.5 * (squares.sum(axis=1) + np.log(self.variances).sum())
        return result - 0.5 * LOG_2PI * self.variances.size

    def sample(self, n: int, rng: np.random.Generator) -> Matrix:
        """Return n rows drawn by ancestral sampling."""
        x = rng.standard_normal((n, self.variances.size)) * np.sqrt(self.variances) + self.intercepts
        for i in self.order:
            x[:, i] += x @ self.coefficients[i]
        return x


def topological_order(arcs: Sequence[Arc], n_nodes: int) -> list[int]:
    """Return the nodes, parents before children; of several candidates the smallest first.

    Raises
    ------
    FitError
        If the arcs hold a cycle.
    """
    parents: dict[int, set[int]] = {node: set() for node in range(n_nodes)}
    for parent, child in arcs:
        parents[child].add(parent)
    order: list[int] = []
    while parents:
        free = [node for node, left in parents.items() if not left]
        if not free:
            raise FitError(f"the arcs among columns {sorted(parents)} hold a cycle")
        order.append(free[0])
        del parents[free[0]]
        for left in parents.values():
            left.discard(free[0])
    return order
