"""A Bayesian network as a detector: how unlikely a flow is, node by node."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from detectors.base import Explanation, Matrix, Scores, State, Term, fitted
from detectors.gaussian import LOG_2PI, LinearGaussian
from detectors.model import ModelDetector, Training
from detectors.parameters import between, one_of, whole
from detectors.state import array
from detectors.tiles import Projection, by_tiles


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """A network as the maps that scoring needs."""

    network: LinearGaussian
    deviations: Projection  # residual of each node in its standard deviations
    predictions: Projection  # of each node from its parents
    constants: Scores  # of each node's term

    @classmethod
    def of(cls, network: LinearGaussian) -> Self:
        """Return the maps of a network."""
        spread = np.sqrt(network.variances)
        weights = (np.eye(spread.size) - network.coefficients) / spread[:, None]
        return cls(
            network,
            Projection(weights, -network.intercepts / spread),
            Projection(network.coefficients, network.intercepts),
            0.5 * (LOG_2PI + np.log(network.variances)),
        )

    @property
    def labels(self) -> tuple[Term, ...]:
        """One node a column."""
        return tuple(Term(kind="node", id=f"c{j}") for j in range(self.n_columns))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.constants.size

    def score(self, x: Matrix) -> Scores:
        """Return the negative log-likelihood of each flow; it may be negative."""

        def of_tile(tile: Matrix) -> Matrix:
            result: Matrix = 0.5 * self.deviations.squared_norms(tile) + self.constants.sum()
            return result

        return by_tiles(x, of_tile, 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return the negative log-likelihood of each node given its parents; they sum to the score."""

        def of_tile(tile: Matrix) -> Matrix:
            y = self.deviations.on_tile(tile)
            result: Matrix = 0.5 * y * y + self.constants[:, None]
            return result

        return by_tiles(x, of_tile, x.shape[1])

    def explain(self, x: Matrix) -> Explanation:
        """Say how far each node lies from what its parents predict, and what they add to that."""
        return Explanation(
            score_kind="negative_log_likelihood",
            additive=True,
            labels=self.labels,
            terms=self.terms(x),
            deviations=self.deviations(x),
            contributions=self.deviations.contributions(x),
            constants=self.deviations.constants,
            expected=self.predictions(x),
        )

    def state(self) -> State:
        """Return the network's coefficients; its arcs, for people to read."""
        network = self.network
        arrays = {
            "intercepts": network.intercepts,
            "coefficients": network.coefficients,
            "variances": network.variances,
        }
        return State(parameters={"arcs": [list(arc) for arc in network.arcs]}, arrays=arrays)


@dataclass(kw_only=True, eq=False)
class BayesianNetwork(ModelDetector):
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

    _model: Maps | None = field(default=None, init=False, repr=False)

    def check(self) -> None:
        """Refuse parameters out of their range."""
        one_of("structure", self.structure, ["pc", "hc"])
        between("alpha", self.alpha, 0.0, 1.0)
        between("variance_floor", self.variance_floor, 0.0, 1.0)
        whole("max_rows", self.max_rows, least=100)

    def least(self, n_columns: int) -> int:
        """Return how many rows the tests of PC need."""
        from detectors.structure import ROWS_PER_COLUMN

        return ROWS_PER_COLUMN * n_columns + 5

    def learn(self, data: Training) -> Maps:
        """Learn structure and parameters from normal rows; held-out rows are not needed."""
        from detectors.structure import learn_network

        data.progress("structure", 0.0)
        network = learn_network(
            data.normal,
            method=self.structure,
            alpha=self.alpha,
            variance_floor=self.variance_floor,
            rng=data.rng,
            max_rows=self.max_rows,
        )
        data.progress("parameters", 1.0)
        return Maps.of(network)

    @property
    def network(self) -> LinearGaussian:
        """The network: arcs, coefficients, variances."""
        return fitted(self, self._model, "network").network

    def revive(self, state: State) -> Maps:
        """Return the network that a state holds."""
        intercepts = array(state, "intercepts", None)
        d = intercepts.size
        coefficients, variances = array(state, "coefficients", d, d), array(state, "variances", d)
        return Maps.of(LinearGaussian(intercepts, coefficients, variances))
