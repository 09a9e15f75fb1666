"""Structure and parameters of networks by PyBNesian, with its known traps closed.

PyBNesian is imported when something is learned, never for scoring. The traps, each with a test:

- a `pyarrow.Table` ends the process with a segmentation fault: only record batches go in;
- a constant column gives variance 0 and likelihoods that are all NaN: it is left out, and gets the
  least variance and no arcs;
- collinear columns give coefficients of 1e10, without an error: a column that others determine is
  left out, then attached to those that determine it;
- NaN gives coefficients that are NaN, without an error: refused here;
- PC returns a partially directed graph, whose own extension to a DAG may fail, or add arcs that were
  forbidden: the rest is directed here, by the algorithm of Dor and Tarsi [1]_.

References
----------
.. [1] Dor & Tarsi (1992), A simple algorithm to construct a consistent extension of a partially
   oriented graph, UCLA R-185.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from detectors.base import Matrix, Scores
from detectors.errors import FitError
from detectors.gaussian import Arc, LinearGaussian, topological_order

COLLINEAR = 1e-6
"""A column is determined by others if they leave less than this share of its variance."""

MOST_DETERMINING = 3
"""Parents that a determined column gets: a copy has one, a sum two; more would not be readable."""

ROWS_PER_COLUMN = 3
"""Rows needed for each column: PC's tests condition on sets of columns."""


def learn_network(
    x: Matrix,
    *,
    method: str,
    alpha: float,
    variance_floor: float,
    rng: np.random.Generator,
    max_rows: int = 50_000,
) -> LinearGaussian:
    """Return the network learned from rows: structure by "pc" or "hc", parameters by likelihood.

    Parameters
    ----------
    alpha : float
        Level of PC's tests of partial correlation.
    variance_floor : float
        Least variance of a node.
    max_rows : int
        Rows used for the structure, drawn at random if there are more; parameters use all.
    """
    check_learnable(x)
    sample = x if len(x) <= max_rows else x[rng.choice(len(x), max_rows, replace=False)]
    # Of the sample, not of all rows: a column constant in it makes the hill-climb find no arc at all.
    kept, determined = sound_columns(sample)
    learn = {"pc": pc_arcs, "hc": hill_climb_arcs}[method]
    found = learn(sample[:, kept], alpha) if len(kept) > 1 else []
    arcs = [(kept[parent], kept[child]) for parent, child in found]
    arcs += [(parent, child) for child, parents in determined.items() for parent in parents]
    topological_order(arcs, x.shape[1])
    return fit_network(x, arcs, variance_floor=variance_floor)


def check_learnable(x: Matrix) -> None:
    """Refuse rows from which PyBNesian would learn nonsense, without saying so."""
    n, d = x.shape
    if not np.isfinite(x).all():
        raise FitError("structure learning needs finite rows, got NaN or infinity; check the records")
    if n < ROWS_PER_COLUMN * d + 5:
        raise FitError(
            f"structure learning needs {ROWS_PER_COLUMN * d + 5} rows for {d} columns, got {n}; "
            "give it more traffic or fewer columns"
        )


def sound_columns(x: Matrix) -> tuple[list[int], dict[int, list[int]]]:
    """Return the columns to learn from, and those that others determine with what determines them.

    Constant columns are in neither.
    """
    spread = x.std(axis=0)
    alive = np.flatnonzero(spread > 1e-9 * np.maximum(1.0, np.abs(x).max(axis=0)))
    unit = (x[:, alive] - x[:, alive].mean(axis=0)) / spread[alive]
    correlation = unit.T @ unit / len(x)
    kept: list[int] = []
    determined: dict[int, list[int]] = {}
    for i in range(alive.size):
        if _left(correlation, kept, i) < COLLINEAR:
            determined[int(alive[i])] = [int(alive[j]) for j in _determining(correlation, kept, i)]
        else:
            kept.append(i)
    return [int(alive[i]) for i in kept], determined


def _left(correlation: Matrix, given: Sequence[int], i: int) -> float:
    """Return the share of the variance of i that the columns `given` leave."""
    if not given:
        return 1.0
    inner = correlation[np.ix_(given, given)]
    cross = correlation[given, i]
    return float(1.0 - cross @ np.linalg.solve(inner, cross))


def _determining(correlation: Matrix, kept: Sequence[int], i: int) -> list[int]:
    """Return the few columns of `kept` that determine i, the best first."""
    chosen: list[int] = []
    while len(chosen) < min(MOST_DETERMINING, len(kept)):
        rest = [j for j in kept if j not in chosen]
        chosen.append(min(rest, key=lambda j: _left(correlation, [*chosen, j], i)))
        if _left(correlation, chosen, i) < COLLINEAR:
            break
    return chosen


def batch(x: Matrix, columns: Sequence[int]) -> Any:
    """Return some columns as PyBNesian takes them: float64, named by number, a batch and no Table."""
    import pyarrow as pa

    return pa.record_batch([pa.array(x[:, column]) for column in columns], names=_names(columns))


def _names(columns: Iterable[int]) -> list[str]:
    return [str(column) for column in columns]


def pc_arcs(x: Matrix, alpha: float) -> list[Arc]:
    """Return the arcs found by PC with tests of partial linear correlation."""
    import pybnesian as pb

    columns = range(x.shape[1])
    test = pb.LinearCorrelation(batch(x, columns))
    graph = pb.PC().estimate(test, nodes=_names(columns), alpha=alpha)
    directed = [(int(parent), int(child)) for parent, child in graph.arcs()]
    undirected = [(int(one), int(other)) for one, other in graph.edges()]
    return directed_acyclic(x.shape[1], directed, undirected)


def hill_climb_arcs(x: Matrix, _alpha: float) -> list[Arc]:
    """Return the arcs found by greedy hill-climbing of the BIC; there is no level of a test."""
    import pybnesian as pb

    found = pb.hc(batch(x, range(x.shape[1])), bn_type=pb.GaussianNetworkType(), score="bic", max_indegree=8)
    return sorted((int(parent), int(child)) for parent, child in found.arcs())


def two_tier_arcs(x: Matrix, first: int, alpha: float) -> list[Arc]:
    """Return the arcs that PC finds from the first `first` columns to the others, and no other ones.

    The tiers direct every arc; arcs within a tier are forbidden.
    """
    import pybnesian as pb

    kept, _ = sound_columns(x)
    upper = [column for column in kept if column < first]
    lower = [column for column in kept if column >= first]
    if not upper or not lower:
        return []
    within = [pair for tier in (upper, lower) for pair in _pairs(_names(tier))]
    graph = pb.PC().estimate(
        pb.LinearCorrelation(batch(x, kept)), nodes=_names(kept), edge_blacklist=within, alpha=alpha
    )
    met = {(int(one), int(other)) for one, other in [*graph.arcs(), *graph.edges()]}
    arcs = sorted({(min(pair), max(pair)) for pair in met})
    if any(parent >= first or child < first for parent, child in arcs):
        raise FitError(f"PC returned arcs within a tier although they are forbidden: {arcs}")
    return arcs


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]


def directed_acyclic(n_nodes: int, directed: Iterable[Arc], undirected: Iterable[Arc]) -> list[Arc]:
    """Return an acyclic direction of a partially directed graph, with no arc that it did not have.

    Nodes are taken away one by one, each as a sink of what is left: no arc leads out of it, and its
    undirected neighbours are neighbours of all its other neighbours, so that no new collision
    arises. Where no such node is left, as in a graph that no DAG extends, the node with the fewest
    arcs to turn round is taken.
    """
    out: dict[int, set[int]] = {node: set() for node in range(n_nodes)}
    plain: dict[int, set[int]] = {node: set() for node in range(n_nodes)}
    near: dict[int, set[int]] = {node: set() for node in range(n_nodes)}
    for parent, child in directed:
        out[parent].add(child)
    for one, other in undirected:
        plain[one].add(other)
        plain[other].add(one)
    for table in (out, plain):
        for node, others in table.items():
            for other in others:
                near[node].add(other)
                near[other].add(node)
    arcs: list[Arc] = []
    left = set(range(n_nodes))
    while left:
        sink = min(left, key=lambda node: _cost(node, left, out, plain, near))
        left.remove(sink)
        arcs += [(parent, sink) for parent in near[sink] & left]
    topological_order(arcs, n_nodes)
    return sorted(arcs)


Links = dict[int, set[int]]


def _cost(node: int, left: set[int], out: Links, plain: Links, near: Links) -> tuple[int, int, int]:
    """Return what it costs to make `node` a sink: arcs turned round, collisions, its own number."""
    neighbours = near[node] & left
    turned = len(out[node] & neighbours)
    collisions = sum(len(neighbours - near[other] - {other}) for other in plain[node] & neighbours)
    return turned, collisions, node


def fit_network(x: Matrix, arcs: Sequence[Arc], *, variance_floor: float) -> LinearGaussian:
    """Return the network with the given arcs, parameters by maximum likelihood (PyBNesian).

    Variances below the floor are raised to it. Nodes with no arc are fitted here: mean and variance.
    """
    d = x.shape[1]
    intercepts, variances = x.mean(axis=0), x.var(axis=0, ddof=1)
    coefficients = np.zeros((d, d))
    linked = sorted({node for arc in arcs for node in arc})
    for node, beta, variance, parents in _fitted_nodes(x, arcs, linked):
        intercepts[node], variances[node] = beta[0], variance
        coefficients[node, parents] = beta[1:]
    if not (np.isfinite(intercepts).all() and np.isfinite(coefficients).all()):
        raise FitError("maximum likelihood gave coefficients that are not finite; check the columns' scales")
    return LinearGaussian(intercepts, coefficients, np.maximum(variances, variance_floor))


def _fitted_nodes(
    x: Matrix, arcs: Sequence[Arc], linked: Sequence[int]
) -> Iterable[tuple[int, Scores, float, list[int]]]:
    """Yield node, coefficients with the intercept first, variance and parents, in that order."""
    if not linked:
        return
    import pybnesian as pb

    net: Any = pb.GaussianNetwork(_names(linked), [(str(parent), str(child)) for parent, child in arcs])
    net.fit(batch(x, linked))
    for node in linked:
        cpd = net.cpd(str(node))
        yield node, np.asarray(cpd.beta), float(cpd.variance), [int(name) for name in cpd.evidence()]
