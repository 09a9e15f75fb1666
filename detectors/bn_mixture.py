"""Several Bayesian networks, one for each kind of normal flow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Explanation, Matrix, Scores, State, Term
from detectors.errors import FitError, StateError
from detectors.gaussian import LOG_2PI, LinearGaussian
from detectors.inputs import Inputs
from detectors.mixture import ROWS_PER_COLUMN, Mixture, Rows, Rules, learn_mixture, one_each
from detectors.model import ModelDetector, Training
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.sum import summed
from detectors.state import array
from detectors.tiles import by_tiles

KIND = "negative_log_likelihood"


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One network of the mixture, as scoring asks it.

    Parameters
    ----------
    network : LinearGaussian
        Of the numeric columns, in units of one deviation.
    chances : ndarray of shape (b,)
        Of the yes/no columns.
    """

    network: LinearGaussian
    chances: Scores

    def residuals(self, numeric: Matrix) -> Matrix:
        """Return how far each node of a tile lies from what its parents predict, in deviations."""
        found = numeric - np.matmul(self.network.coefficients, numeric) - self.network.intercepts[:, None]
        scaled: Matrix = found / np.sqrt(self.network.variances)[:, None]
        return scaled

    def numeric_terms(self, numeric: Matrix) -> Matrix:
        """Return each numeric node's negative log-likelihood."""
        deviations = self.residuals(numeric)
        constants = 0.5 * (LOG_2PI + np.log(self.network.variances))
        terms: Matrix = 0.5 * deviations * deviations + constants[:, None]
        return terms

    def yes_terms(self, yes: npt.NDArray[np.bool_]) -> Matrix:
        """Return each yes/no column's negative log-likelihood."""
        chances = self.chances[:, None]
        return np.where(yes, -np.log(chances), -np.log1p(-chances))


@dataclass(eq=False)
class MixtureModel:
    """A fitted mixture: -log p(row), shared out over its columns.

    With r the components' responsibilities for a row, -log p(row) is the sum over components of
    r_k (-log p_k(row) - log share_k + log r_k). What r_k weighs is a sum over nodes; the rest, how far the
    responsibilities are from the shares, is spread evenly over the columns.
    """

    inputs: Inputs
    yes: npt.NDArray[np.bool_]  # (d,), columns that hold only 0 and 1
    mixture: Mixture
    variance_floor: float
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_columns(self) -> int:
        """Number of matrix columns."""
        return self.yes.size

    @cached_property
    def labels(self) -> tuple[Term, ...]:
        """One node a column."""
        return tuple(Term(kind="node", id=f"c{j}") for j in range(self.n_columns))

    @cached_property
    def components(self) -> Sequence[Component]:
        """The networks and chances."""
        # Products of transposed arrays take other kernels: other bits than after saving.
        each = self.mixture.networks
        networks = (
            LinearGaussian(net.intercepts, np.ascontiguousarray(net.coefficients), net.variances)
            for net in each
        )
        return [Component(*pair) for pair in zip(networks, self.mixture.chances, strict=True)]

    def _nodes(self, tile: Matrix) -> tuple[Matrix, Matrix]:
        """Return each component's terms, (k, d, 256), and sums with its share, (k, 256)."""
        units = self.inputs.units(tile)
        numeric, said = units[~self.yes], units[self.yes]
        yes = said >= 0.5
        away = said - yes  # neither yes nor no
        terms = np.empty((len(self.components), *units.shape))
        for component, found in zip(self.components, terms, strict=True):
            found[~self.yes] = component.numeric_terms(numeric)
            found[self.yes] = component.yes_terms(yes) + away * away / (2.0 * self.variance_floor)
        return terms, np.add.reduce(terms, axis=1) - np.log(self.mixture.shares)[:, None]

    def score(self, x: Matrix) -> Scores:
        """Return the negative log-likelihood of each row."""
        return by_tiles(x, lambda tile: _minus_log_sum(self._nodes(tile)[1]), 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return each column's part."""

        def of_tile(tile: Matrix) -> Matrix:
            nodes, totals = self._nodes(tile)
            logs = _minus_log_sum(totals) - totals
            shares = np.exp(logs)
            unusual = summed(shares * np.where(shares > 0, logs, 0.0)) - summed(
                shares * np.log(self.mixture.shares)[:, None]
            )
            parts: Matrix = np.add.reduce(nodes * shares[:, None, :], axis=0)
            return parts + unusual / self.n_columns

        return by_tiles(x, of_tile, self.n_columns)

    def explain(self, x: Matrix) -> Explanation:
        """Say how each row lies in the component that is most likely to have made it."""
        d, units = self.n_columns, by_tiles(x, self.inputs.units, self.n_columns)
        best = by_tiles(x, lambda tile: _likeliest(self._nodes(tile)[1]), 1)[:, 0].astype(np.intp)
        slopes, centres, spreads = self._dense
        away = (units - centres[best])[:, None, :]
        contributions = (np.eye(d) - slopes[best]) * away / spreads[best][:, :, None]
        return Explanation(
            score_kind=KIND,
            additive=True,
            labels=self.labels,
            terms=self.terms(x),
            deviations=contributions.sum(axis=2),
            contributions=contributions,
            constants=np.zeros(d),
            expected=self.inputs.rows(centres[best] + (slopes[best] * away).sum(axis=2)),
        )

    @cached_property
    def _dense(self) -> tuple[npt.NDArray[np.float64], Matrix, Matrix]:
        """Coefficients (k, d, d), means (k, d) and deviations (k, d) over all columns."""
        k, d = len(self.components), self.n_columns
        slopes, centres, spreads = np.zeros((k, d, d)), np.zeros((k, d)), np.zeros((k, d))
        numeric = np.flatnonzero(~self.yes)
        for i, (network, chances) in enumerate(zip(self.mixture.networks, self.mixture.chances, strict=True)):
            slopes[i][np.ix_(numeric, numeric)] = network.coefficients
            centres[i, numeric] = network.mean
            centres[i, self.yes] = chances
            spreads[i, numeric] = np.sqrt(network.variances)
            spreads[i, self.yes] = np.sqrt(chances * (1.0 - chances))
        return slopes, centres, spreads

    def state(self) -> State:
        """Return the networks, and what the components say of yes/no columns."""
        networks = self.mixture.networks
        arrays = self.inputs.arrays() | {
            "yes": self.yes.astype(np.float64),
            "shares": self.mixture.shares,
            "intercepts": np.stack([network.intercepts for network in networks]),
            "coefficients": np.stack([network.coefficients for network in networks]),
            "variances": np.stack([network.variances for network in networks]),
        }
        if self.yes.any():
            arrays["chances"] = self.mixture.chances
        arcs = [[list(arc) for arc in network.arcs] for network in networks]
        return State(parameters={"arcs": arcs, "report": dict(self.report)}, arrays=arrays)

    @classmethod
    def restored(cls, state: State, variance_floor: float) -> "MixtureModel":
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        yes = array(state, "yes", inputs.n_columns)
        if not np.isin(yes, (0.0, 1.0)).all():
            raise StateError("array 'yes' holds other numbers than 0 and 1; train the model again")
        mixture = _restored_mixture(state, int(yes.sum()), int(yes.size - yes.sum()))
        report = state.parameters.get("report", {})
        return cls(inputs, yes == 1.0, mixture, variance_floor, report)


def _restored_mixture(state: State, n_yes: int, d: int) -> Mixture:
    shares = array(state, "shares", None)
    k = shares.size
    intercepts, variances = array(state, "intercepts", k, d), array(state, "variances", k, d)
    coefficients = array(state, "coefficients", k, d, d)
    chances = array(state, "chances", k, n_yes) if n_yes else np.zeros((k, 0))
    for name, values in (("shares", shares), ("variances", variances), ("chances", chances)):
        if (values <= 0).any():
            raise StateError(f"array {name!r} holds values that are not positive; train the model again")
    if (chances >= 1).any():
        raise StateError("array 'chances' holds values that are not below 1; train the model again")
    networks = (LinearGaussian(*each) for each in zip(intercepts, coefficients, variances, strict=True))
    return Mixture(shares, tuple(networks), chances)


def _minus_log_sum(totals: Matrix) -> Matrix:
    """Return -log(sum of exp(-totals)) over the components, (1, 256)."""
    least = totals.min(axis=0, keepdims=True)
    result: Matrix = least - np.log(summed(np.exp(least - totals)))
    return result


def _likeliest(totals: Matrix) -> Matrix:
    first: Matrix = totals.argmin(axis=0)[None].astype(np.float64)
    return first


@dataclass(kw_only=True, eq=False)
class BNMixture(ModelDetector):
    """Score a flow by its negative log-likelihood under a mixture of Bayesian networks.

    One linear-Gaussian network is one Gaussian in all: it fails where normal flows are of several kinds. Here
    each kind has a network of its own. Kinds are found by EM, as many as the BIC likes best; or they are the
    values of a categorical feature, given by `context`, such as one network for each protocol. Columns that
    hold only 0 and 1 are no Gaussians: each has a chance in each kind.

    A column's term is what its node, given its parents, adds in each component, weighed by how likely the
    component is to have made the row; how unusual these responsibilities are is spread evenly over the
    columns, so that the terms sum to the score. Deviations and expected values are those of the likeliest
    component.

    Known weakness: EM finds another optimum from another start; with hundreds of columns a component's
    covariance needs more rows than it may have, and is then drawn towards independent columns.

    Parameters
    ----------
    structure : {"full", "pc", "hc"}
        Arcs of each network: every earlier column is a parent (any Gaussian), or learned from the rows of
        the component by PC or by hill-climbing of the BIC.
    n_components : int or None
        Number of components; None searches it.
    max_components : int
        Most of them. A component also needs five rows a numeric column.
    context : sequence of int
        Numbers of the yes/no columns whose values, together, say which network is a row's own; there is no
        EM then. Values with fewer rows than a component needs share one network.
    alpha : float
        Level of PC's tests.
    variance_floor : float
        Added to the variance of each node, of the unit variance of standardised columns.
    prior_rows : float
        Rows without dependencies, as spread as all normal rows, that are added to each component: they keep
        small components from being sure of what they have hardly seen.
    max_rows : int
        Rows for the search and for structures; parameters use all.
    rounds : int
        Most rounds of EM.
    """

    structure: str = "full"
    n_components: int | None = None
    max_components: int = 8
    context: tuple[int, ...] = ()
    alpha: float = 0.01
    variance_floor: float = 1e-3
    prior_rows: float = 1.0
    max_rows: int = 10_000
    rounds: int = 100

    name = "bn_mixture"
    columns = frozenset({"numeric", "binary", "categorical"})

    def check(self) -> None:
        """Refuse parameters out of their range."""
        one_of("structure", self.structure, ["full", "pc", "hc"])
        if self.n_components is not None:
            whole("n_components", self.n_components, least=1)
        self.context = wholes("context", self.context, least=0)
        between("alpha", self.alpha, 0.0, 1.0)
        between("variance_floor", self.variance_floor, 0.0, 1.0)
        between("prior_rows", self.prior_rows, 0.0, 1e6)
        for name, least in (("max_components", 1), ("max_rows", 100), ("rounds", 1)):
            whole(name, getattr(self, name), least=least)

    @property
    def rules(self) -> Rules:
        """How the mixture is learned."""
        return Rules(**{each.name: getattr(self, each.name) for each in fields(Rules)})

    def learn(self, data: Training) -> MixtureModel:
        """Find the kinds of normal rows and the network of each; held-out rows are not needed."""
        yes = np.asarray(np.isin(data.normal, (0.0, 1.0)).all(axis=0))
        inputs = _units(data.normal, yes)
        units = (data.normal - inputs.centre) / inputs.spread
        rows = Rows(units[:, ~yes], units[:, yes])
        if self.context:
            values = self._contexts(data.normal, yes)
            mixture = one_each(rows, values, self.rules, data.rng)
            report: dict[str, Any] = {"components": len(mixture.shares), "shares": mixture.shares.tolist()}
        else:
            mixture, report = learn_mixture(rows, self.rules, data.rng, data.progress)
        data.progress("networks", 1.0)
        return MixtureModel(inputs, yes, mixture, self.variance_floor, report)

    def _contexts(self, normal: Matrix, yes: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """Return the number of each row's network; the last one is that of the rare values."""
        wrong = [column for column in self.context if column >= yes.size or not yes[column]]
        if wrong:
            raise FitError(
                f"bn_mixture.fit: context columns {wrong} are not among the {int(yes.sum())} yes/no columns "
                f"of {yes.size}, expected columns that hold only 0 and 1"
            )
        found, counts = np.unique(normal[:, self.context], axis=0, return_inverse=True, return_counts=True)[
            1:
        ]
        common = counts >= ROWS_PER_COLUMN * max(1, int((~yes).sum()))
        number = np.where(common, np.cumsum(common) - 1, common.sum())
        contexts: npt.NDArray[np.intp] = number[found.ravel()]
        return contexts

    def revive(self, state: State) -> MixtureModel:
        """Return the model that a state holds."""
        return MixtureModel.restored(state, self.variance_floor)


def _units(normal: Matrix, yes: npt.NDArray[np.bool_]) -> Inputs:
    """Return the units of the numeric columns; yes/no columns stay as they are."""
    inputs = Inputs.of(normal, cap=0.0)
    return Inputs(
        np.where(yes, 0.0, inputs.centre), np.where(yes, 1.0, inputs.spread), inputs.low, inputs.high
    )
