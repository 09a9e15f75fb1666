"""Mixtures of linear-Gaussian Bayesian networks: their likelihood, and how they are learned.

Numeric columns follow a network of their own in each component; columns that hold only 0 and 1 have a
chance of their own in each. Expectation and maximisation take turns [1]_; the number of components is the
one with the best BIC.

References
----------
.. [1] Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm, JRSS B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Progress, Scores
from detectors.gaussian import LOG_2PI, Arc, LinearGaussian

GAIN = 1e-3
"""EM ends when the mean log-likelihood of a row rises by less."""

ROWS_PER_COLUMN = 5
"""Rows that a component needs for each numeric column: with fewer it would mostly be its prior."""

NEGLIGIBLE = 1e-9
"""A row of which a component has a smaller share does not count for it. Most rows belong to one alone, and
products with the tiniest numbers take a hundred times as long."""

LAST_ROUNDS = 10
"""Rounds of EM over all rows, after those over a sample: it starts next to its end."""

SEARCH_PATIENCE = 2
"""Numbers of components in a row without a better BIC before the search ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows as a mixture takes them: numeric columns in units of one deviation, and yes/no columns."""

    numeric: Matrix  # (n, d)
    yes: Matrix  # (n, b), 0 or 1

    def __len__(self) -> int:
        return len(self.numeric)

    @property
    def together(self) -> Matrix:
        """All columns, (n, d + b)."""
        return np.column_stack([self.numeric, self.yes])

    @property
    def most_components(self) -> int:
        """Components that the rows suffice for."""
        enough = len(self) // (ROWS_PER_COLUMN * max(1, int(self.numeric.shape[1])))
        return max(1, min(enough, len(np.unique(self.together, axis=0))))

    def some(self, most: int, rng: np.random.Generator) -> "Rows":
        """Return all rows, or as many drawn at random."""
        if len(self) <= most:
            return self
        drawn = np.sort(rng.choice(len(self), most, replace=False))
        return Rows(self.numeric[drawn], self.yes[drawn])


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """p(row) = sum_k shares_k network_k(numeric) prod_j chance_kj^yes_j (1 - chance_kj)^(1 - yes_j).

    Parameters
    ----------
    shares : ndarray of shape (k,)
    networks : tuple of LinearGaussian
    chances : ndarray of shape (k, b)

    Examples
    --------
    >>> one, other = (LinearGaussian(np.array([m]), np.zeros((1, 1)), np.ones(1)) for m in (-9.0, 9.0))
    >>> both = Mixture(np.array([0.5, 0.5]), (one, other), np.zeros((2, 0)))
    >>> both.logl(np.array([[-9.0], [0.0], [9.0]])).round(2)
    array([ -1.61, -41.42,  -1.61])
    """

    shares: Scores
    networks: tuple[LinearGaussian, ...]
    chances: Matrix

    def joint(self, rows: Rows) -> Matrix:
        """Return the log of share times likelihood, (n, k)."""
        found = np.stack([_logl(network, rows.numeric) for network in self.networks], axis=1)
        found += rows.yes @ np.log(self.chances.T) + (1.0 - rows.yes) @ np.log1p(-self.chances.T)
        joint: Matrix = found + np.log(self.shares)
        return joint

    def logl(self, x: Matrix) -> Scores:
        """Return the log-likelihood of rows without yes/no columns, (n,)."""
        return log_sum(self.joint(Rows(x, np.zeros((len(x), 0)))))

    @property
    def n_parameters(self) -> int:
        """Numbers that were learned."""
        inner = sum(2 * network.variances.size + len(network.arcs) for network in self.networks)
        return self.shares.size - 1 + self.chances.size + inner


def _logl(network: LinearGaussian, x: Matrix) -> Scores:
    """Return the network's `logl`, in fewer steps: EM asks for it many times."""
    spread = np.sqrt(network.variances)
    white = x @ ((np.eye(spread.size) - network.coefficients) / spread[:, None]).T
    white -= network.intercepts / spread
    constant = np.log(spread).sum() + 0.5 * LOG_2PI * spread.size
    logl: Scores = -0.5 * np.einsum("ij,ij->i", white, white) - constant
    return logl


def log_sum(values: Matrix) -> Scores:
    """Return log(sum of exp) of each row, (n,)."""
    most = values.max(axis=1)
    total: Scores = most + np.log(np.exp(values - most[:, None]).sum(axis=1))
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a mixture is learned.

    Parameters
    ----------
    structure : {"full", "pc", "hc"}
        Arcs of each network: all, or learned from the component's rows.
    alpha : float
        Level of PC's tests.
    variance_floor : float
        Added to every variance.
    prior_rows : float
        Rows without dependencies, as spread as all rows together, that are added to each component.
    n_components, max_components : int
        How many; None searches up to the most.
    max_rows : int
        Rows for the search, for the structure, drawn at random if there are more.
    rounds : int
        Most rounds of EM.
    """

    structure: str = "full"
    alpha: float = 0.01
    variance_floor: float = 1e-3
    prior_rows: float = 1.0
    n_components: int | None = None
    max_components: int = 8
    max_rows: int = 10_000
    rounds: int = 100


Arcs = Sequence[Sequence[Arc]] | None
"""Arcs of each component; None: all."""


def learn_mixture(
    rows: Rows, rules: Rules, rng: np.random.Generator, progress: Progress
) -> tuple[Mixture, dict[str, Any]]:
    """Return the mixture with the best BIC, and how it was found."""
    sample = rows.some(rules.max_rows, rng)
    most = min(rules.n_components or rules.max_components, sample.most_components)
    first = most if rules.n_components else 1
    best, bics, misses = None, {}, 0
    for k in range(first, most + 1):
        progress(f"{k} component{'s' * (k > 1)}", (k - first) / (most + 1 - first))
        found = expect_and_maximise(sample, clusters(sample, k, rng), rules, None)
        bics[str(k)] = bic(found, sample)
        if best is None or bics[str(k)] < min(list(bics.values())[:-1]):
            best, misses = found, 0
        elif (misses := misses + 1) >= SEARCH_PATIENCE:
            break
    assert best is not None
    progress("all rows", 0.9)
    mixture = refined(best, rows, rules, rng)
    return mixture, {"components": mixture.shares.size, "bic": bics, "shares": mixture.shares.tolist()}


def refined(mixture: Mixture, rows: Rows, rules: Rules, rng: np.random.Generator) -> Mixture:
    """Return the mixture with the arcs that the rules ask for, learned from all rows."""
    shares = responsibilities(mixture, rows)
    arcs = None if rules.structure == "full" else structures(rows, shares, rules, rng)
    return expect_and_maximise(rows, shares, replace(rules, rounds=min(LAST_ROUNDS, rules.rounds)), arcs)


def one_each(rows: Rows, values: npt.NDArray[np.intp], rules: Rules, rng: np.random.Generator) -> Mixture:
    """Return the mixture with a component for the rows of each value, as it stands: without EM."""
    shares = np.eye(int(values.max()) + 1)[values]
    arcs = None if rules.structure == "full" else structures(rows, shares, rules, rng)
    return maximised(rows, shares, rules, arcs)


def clusters(rows: Rows, k: int, rng: np.random.Generator) -> Matrix:
    """Return the start, (n, k): each row belongs to its cluster, by k-means."""
    from sklearn.cluster import KMeans

    if k == 1:
        return np.ones((len(rows), 1))
    found = KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(rows.together)
    start: Matrix = np.eye(k)[found]
    return start


def expect_and_maximise(rows: Rows, shares: Matrix, rules: Rules, arcs: Arcs) -> Mixture:
    """Return the mixture that EM ends at, from the shares (n, k) that components have in the rows."""
    mixture, before = maximised(rows, shares, rules, arcs), -np.inf
    for _ in range(rules.rounds if shares.shape[1] > 1 else 0):
        joint = mixture.joint(rows)
        total = log_sum(joint)
        if total.mean() - before < GAIN:
            break
        before = float(total.mean())
        mixture = maximised(rows, _shares(joint, total), rules, arcs)
    return mixture


def responsibilities(mixture: Mixture, rows: Rows) -> Matrix:
    """Return the probability of each component given the row, (n, k)."""
    joint = mixture.joint(rows)
    return _shares(joint, log_sum(joint))


def _shares(joint: Matrix, total: Scores) -> Matrix:
    shares = np.exp(joint - total[:, None])
    return np.where(shares > NEGLIGIBLE, shares, 0.0)


def maximised(rows: Rows, shares: Matrix, rules: Rules, arcs: Arcs) -> Mixture:
    """Return the most likely mixture, given the shares of the components in the rows."""
    spread = rows.numeric.var(axis=0)
    counts = shares.sum(axis=0)
    networks = tuple(
        network_of(*moments(rows.numeric, weights, spread, rules), None if arcs is None else arcs[k])
        for k, weights in enumerate(shares.T)
    )
    # One row more with each value than counted: nothing is impossible.
    chances = (shares.T @ rows.yes + 1.0) / (counts[:, None] + 2.0)
    return Mixture((counts + 1.0) / (counts + 1.0).sum(), networks, chances)


def moments(x: Matrix, weights: Scores, spread: Scores, rules: Rules) -> tuple[Scores, Matrix]:
    """Return mean and covariance of weighted rows, blended with the prior's and raised by the floor."""
    used = weights > 0
    weights, x = weights[used], x[used]
    count = float(weights.sum())
    weighted = x * weights[:, None]
    mean = weighted.sum(axis=0) / max(count, 1e-300)
    # Columns are standardised, so that nothing is lost to the difference; rounding stays below the floor.
    scatter = weighted.T @ x - count * np.outer(mean, mean) + rules.prior_rows * np.diag(spread)
    covariance = scatter / (count + rules.prior_rows) + rules.variance_floor * np.eye(spread.size)
    return mean, covariance


def network_of(mean: Scores, covariance: Matrix, arcs: Sequence[Arc] | None) -> LinearGaussian:
    """Return the network with these arcs, or all, that is most likely for rows of these moments."""
    if arcs is None:
        return LinearGaussian.saturated(mean, covariance)
    coefficients = np.zeros_like(covariance)
    variances = np.diag(covariance).copy()
    for child in range(mean.size):
        parents = [parent for parent, other in arcs if other == child]
        slope = np.linalg.solve(covariance[np.ix_(parents, parents)], covariance[parents, child])
        coefficients[child, parents] = slope
        variances[child] -= slope @ covariance[parents, child]
    return LinearGaussian(mean - coefficients @ mean, coefficients, variances)


def structures(rows: Rows, shares: Matrix, rules: Rules, rng: np.random.Generator) -> list[list[Arc]]:
    """Return the arcs learned from the rows of each component; none where it has too few."""
    from detectors.structure import ROWS_PER_COLUMN, learn_network

    d = rows.numeric.shape[1]
    found: list[list[Arc]] = []
    for k in range(shares.shape[1]):
        own = rows.numeric[shares.argmax(axis=1) == k]
        if d < 2 or len(own) < ROWS_PER_COLUMN * d + 5:
            found.append([])
            continue
        network = learn_network(
            own,
            method=rules.structure,
            alpha=rules.alpha,
            variance_floor=rules.variance_floor,
            rng=rng,
            max_rows=rules.max_rows,
        )
        found.append(network.arcs)
    return found


def bic(mixture: Mixture, rows: Rows) -> float:
    """Return the Bayesian information criterion, less is better."""
    fit = float(log_sum(mixture.joint(rows)).sum())
    return -2.0 * fit + mixture.n_parameters * float(np.log(len(rows)))
