"""A Bayesian network as a detector: how unlikely a flow is, node by node."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from detectors.base import (
    Detector,
    Explanation,
    Matrix,
    Progress,
    Scores,
    State,
    Term,
    check_rows,
    fitted,
    no_progress,
)
from detectors.checks import check_training
from detectors.gaussian import LOG_2PI, LinearGaussian
from detectors.parameters import between, one_of, parameters_of, whole
from detectors.state import array
from detectors.tiles import Projection, by_tiles


@dataclass(frozen=True, slots=True, eq=False)
class _Maps:
    """A network as the maps that scoring needs."""

    network: LinearGaussian
    deviations: Projection  # residual of each node in its standard deviations
    predictions: Projection  # of each node from its parents
    constants: Scores  # of each node's term

    @classmethod
    def of(cls, network: LinearGaussian) -> Self:
        spread = np.sqrt(network.variances)
        weights = (np.eye(spread.size) - network.coefficients) / spread[:, None]
        return cls(
            network,
            Projection(weights, -network.intercepts / spread),
            Projection(network.coefficients, network.intercepts),
            0.5 * (LOG_2PI + np.log(network.variances)),
        )

    def terms(self, tile: Matrix) -> Matrix:
        """Return each node's negative log-likelihood, (d, 256)."""
        y = self.deviations.on_tile(tile)
        result: Matrix = 0.5 * y * y + self.constants[:, None]
        return result

    def score(self, tile: Matrix) -> Matrix:
        """Return the sum of the terms, (1, 256)."""
        result: Matrix = 0.5 * self.deviations.squared_norms(tile) + self.constants.sum()
        return result


@dataclass(kw_only=True, eq=False)
class BayesianNetwork(Detector):
    """Score a flow by its negative log-likelihood under a linear-Gaussian Bayesian network.

    Each node has a term of its own: how far the attribute lies from what its parents predict. It is
    one Gaussian in all, so normal traffic of several clusters is beyond it.

    Parameters
    ----------
    structure : {"pc", "hc"}
        PC with tests of partial correlation, as in the paper on BEAA; or greedy hill-climbing of the
        BIC, slower.
    alpha : float
        Level of the tests of PC.
    variance_floor : float
        Least variance of a node, of the unit variance of standardised columns: below it a
        likelihood says more about rounding than about traffic.
    max_rows : int
        Rows used to learn the structure; parameters use all.
    """

    structure: str = "pc"
    alpha: float = 0.01
    variance_floor: float = 1e-3
    max_rows: int = 20_000

    name = "bn"

    _maps: _Maps | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        one_of("structure", self.structure, ["pc", "hc"])
        between("alpha", self.alpha, 0.0, 1.0)
        between("variance_floor", self.variance_floor, 0.0, 1.0)
        whole("max_rows", self.max_rows, least=100)

    def fit(
        self,
        normal: Matrix,
        *,
        held_out: Matrix,
        rng: np.random.Generator,
        anomalies: Matrix | None = None,
        unlabelled: Matrix | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Learn structure and parameters from normal rows; `held_out` and the rest are not needed."""
        from detectors.structure import ROWS_PER_COLUMN, learn_network

        del anomalies, unlabelled
        check_training(self, normal, held_out, least=ROWS_PER_COLUMN * normal.shape[-1] + 5)
        progress("structure", 0.0)
        network = learn_network(
            normal,
            method=self.structure,
            alpha=self.alpha,
            variance_floor=self.variance_floor,
            rng=rng,
            max_rows=self.max_rows,
        )
        self._maps = _Maps.of(network)
        progress("parameters", 1.0)
        return self

    @property
    def network(self) -> LinearGaussian:
        """The network: arcs, coefficients, variances."""
        return fitted(self, self._maps, "network").network

    def score(self, x: Matrix) -> Scores:
        """Return the negative log-likelihood of each flow; it may be negative."""
        return by_tiles(x, self._checked(x, "score").score, 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return the negative log-likelihood of each node given its parents; they sum to the score."""
        return by_tiles(x, self._checked(x, "terms").terms, x.shape[1])

    def explain(self, x: Matrix) -> Explanation:
        """Say how far each node lies from what its parents predict, and what they add to that."""
        maps = self._checked(x, "explain")
        return Explanation(
            score_kind="negative_log_likelihood",
            additive=True,
            labels=self.labels,
            terms=self.terms(x),
            deviations=maps.deviations(x),
            contributions=maps.deviations.contributions(x),
            constants=maps.deviations.constants,
            expected=maps.predictions(x),
        )

    @property
    def labels(self) -> tuple[Term, ...]:
        """One node a column."""
        return tuple(Term(kind="node", id=f"c{j}") for j in range(self.n_columns))

    @property
    def n_columns(self) -> int:
        """Number of columns seen in `fit`."""
        return fitted(self, self._maps, "n_columns").constants.size

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return parameters_of(self)

    def state(self) -> State:
        """Return the network's coefficients; its arcs, for people to read."""
        network = self.network
        arrays = {
            "intercepts": network.intercepts,
            "coefficients": network.coefficients,
            "variances": network.variances,
        }
        return State(parameters={"arcs": [list(arc) for arc in network.arcs]}, arrays=arrays)

    def restore(self, state: State) -> Self:
        """Take over a network."""
        intercepts = array(state, "intercepts", None)
        d = intercepts.size
        network = LinearGaussian(intercepts, array(state, "coefficients", d, d), array(state, "variances", d))
        self._maps = _Maps.of(network)
        return self

    def _checked(self, x: Matrix, method: str) -> _Maps:
        maps = fitted(self, self._maps, method)
        check_rows(x, maps.constants.size, where=f"{self.name}.{method}")
        return maps
