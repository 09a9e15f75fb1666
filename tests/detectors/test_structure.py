"""Networks are learned by PyBNesian, and none of its known traps is open."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import structure
from detectors.base import Matrix
from detectors.errors import FitError
from detectors.gaussian import LinearGaussian, topological_order
from detectors.structure import (
    check_learnable,
    directed_acyclic,
    fit_network,
    learn_network,
    sound_columns,
    two_tier_arcs,
)


def chain(n: int = 3000, seed: int = 0) -> Matrix:
    """Return rows of the network 0 -> 1 -> 2, 3 -> 2, and 4 by itself."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    x[:, 1] += 0.9 * x[:, 0]
    x[:, 2] += 0.8 * x[:, 1] - 0.7 * x[:, 3]
    return x


def learn(x: Matrix, method: str = "pc") -> LinearGaussian:
    return learn_network(x, method=method, alpha=0.001, variance_floor=1e-3, rng=np.random.default_rng(0))


@pytest.mark.parametrize("method", ["pc", "hc"])
def test_the_true_neighbours_are_found(method: str) -> None:
    """The links of the network that made the rows, no more and no fewer."""
    found = {frozenset(arc) for arc in learn(chain(), method).arcs}

    assert found == {frozenset(arc) for arc in [(0, 1), (1, 2), (3, 2)]}


def test_a_collision_is_directed_as_it_was() -> None:
    """1 -> 2 <- 3 is the one direction that the rows determine."""
    arcs = learn(chain()).arcs

    assert (1, 2) in arcs
    assert (3, 2) in arcs


def test_parameters_are_those_of_least_squares() -> None:
    x, arcs = chain(), [(0, 1), (1, 2), (3, 2)]
    net = fit_network(x, arcs, variance_floor=1e-9)
    design = np.column_stack([np.ones(len(x)), x[:, 1], x[:, 3]])
    beta, left, *_ = np.linalg.lstsq(design, x[:, 2])

    np.testing.assert_allclose(beta, [net.intercepts[2], *net.coefficients[2, [1, 3]]], rtol=1e-6)
    np.testing.assert_allclose(left[0] / len(x), net.variances[2], rtol=5e-3)
    assert sorted(arcs) == net.arcs


def test_likelihood_is_that_of_pybnesian() -> None:
    import pybnesian as pb

    x = chain(500)
    net = fit_network(x, [(0, 1), (1, 2), (3, 2)], variance_floor=1e-9)
    theirs = pb.GaussianNetwork(list("01234"), [("0", "1"), ("1", "2"), ("3", "2")])
    rows = structure.batch(x, range(5))
    theirs.fit(rows)

    np.testing.assert_allclose(theirs.logl(rows), net.logl(x), rtol=1e-9)


@pytest.mark.parametrize("method", ["pc", "hc"])
def test_a_column_constant_in_the_drawn_rows_hides_no_arc(method: str) -> None:
    """What varies in all rows but not in those that the structure is learned from is left out, alone."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4000, 3))
    x[:, 2] += 2 * x[:, 0]
    x[:, 1] = 0.0
    drawn = np.random.default_rng(0).choice(4000, 300, replace=False)
    x[np.setdiff1d(np.arange(4000), drawn)[0], 1] = 1.0

    net = structure.learn_network(
        x, method=method, alpha=0.01, variance_floor=1e-3, rng=np.random.default_rng(0), max_rows=300
    )

    linked = net.coefficients != 0
    assert linked[0, 2] or linked[2, 0]
    assert not linked[1].any()


@pytest.mark.parametrize("method", ["pc", "hc"])
def test_a_constant_column_is_alone_and_keeps_likelihoods_finite(method: str) -> None:
    """PyBNesian gives variance 0 and likelihoods that are all NaN."""
    x = chain()
    x[:, 3] = 7.0
    net = learn(x, method)

    assert not any(3 in arc for arc in net.arcs)
    assert net.variances[3] == 1e-3
    assert np.isfinite(net.logl(x)).all()


@pytest.mark.parametrize("method", ["pc", "hc"])
def test_collinear_columns_give_sober_coefficients(method: str) -> None:
    """A copy hangs on its original, a sum on its parts; nothing has coefficients of 1e10."""
    x = chain()
    x = np.column_stack([x, x[:, 0], x[:, 1] + x[:, 4], x[:, 2] + 1e-9 * x[:, 4]])
    net = learn(x, method)

    assert np.abs(net.coefficients).max() < 10
    assert (0, 5) in net.arcs
    assert {(1, 6), (4, 6)} <= set(net.arcs)
    assert (2, 7) in net.arcs
    assert net.variances.min() >= 1e-3
    assert np.isfinite(net.logl(x)).all()


def test_sound_columns_leave_out_constant_and_determined_ones() -> None:
    x = np.column_stack([chain(), np.ones(3000), chain()[:, 2]])

    assert sound_columns(x) == ([0, 1, 2, 3, 4], {6: [2]})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(bad: float) -> None:
    """PyBNesian would give NaN coefficients in silence."""
    x = chain(100)
    x[5, 1] = bad

    with pytest.raises(FitError, match="NaN or infinity"):
        learn(x)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(FitError, match="needs 20 rows for 5 columns, got 19"):
        check_learnable(chain(19))
    check_learnable(chain(20))


def test_only_record_batches_reach_pybnesian() -> None:
    """A Table ends the process with a segmentation fault."""
    import pyarrow as pa

    rows = structure.batch(np.asfortranarray(chain(10)), [2, 0])

    assert isinstance(rows, pa.RecordBatch)
    assert rows.schema.names == ["2", "0"]
    assert {str(field.type) for field in rows.schema} == {"double"}


def test_arcs_within_a_tier_stay_forbidden() -> None:
    """However strongly columns of a tier hang together, arcs lead from the first tier to the second."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 2))
    x = z @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(3000, 6))
    arcs = two_tier_arcs(np.column_stack([z, x]), 2, 0.01)

    assert arcs
    assert all(parent < 2 <= child for parent, child in arcs)
    assert all(parent < 6 <= child for parent, child in two_tier_arcs(np.column_stack([x, z]), 6, 0.01))


nodes = st.integers(2, 8)


@st.composite
def mixed_graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]]:
    """Return any partially directed graph, cyclic ones among them."""
    n = draw(nodes)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    kinds = draw(st.lists(st.integers(0, 3), min_size=len(pairs), max_size=len(pairs)))
    forward = [pair for pair, kind in zip(pairs, kinds, strict=True) if kind == 1]
    backward = [(j, i) for (i, j), kind in zip(pairs, kinds, strict=True) if kind == 2]
    return n, forward + backward, [pair for pair, kind in zip(pairs, kinds, strict=True) if kind == 3]


@settings(max_examples=200, deadline=None)
@given(mixed_graphs())
def test_any_graph_becomes_acyclic_with_the_same_links(
    graph: tuple[int, list[tuple[int, int]], list[tuple[int, int]]],
) -> None:
    """No link is added and none is lost, whatever PC returned."""
    n, directed, undirected = graph
    arcs = directed_acyclic(n, directed, undirected)

    assert {frozenset(arc) for arc in arcs} == {frozenset(arc) for arc in directed + undirected}
    assert len(topological_order(arcs, n)) == n


@settings(max_examples=100, deadline=None)
@given(nodes, st.randoms(use_true_random=False))
def test_directions_that_have_an_extension_are_kept(n: int, random: object) -> None:
    """A DAG comes back as it is; a skeleton without collisions gets none."""
    rng = np.random.default_rng(getattr(random, "randint")(0, 2**31))  # noqa: B009 - typed as object
    dag = [(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < 0.5]
    tree = [(int(rng.integers(0, j)), j) for j in range(1, n)]

    assert directed_acyclic(n, dag, []) == sorted(dag)
    parents = [child for _, child in directed_acyclic(n, [], tree)]
    assert len(parents) == len(set(parents))


def test_two_parents_that_do_not_know_each_other_stay_parents() -> None:
    """0 -> 2 <- 1 and 2 - 3: the rest is directed away from the collision."""
    assert directed_acyclic(4, [(0, 2), (1, 2)], [(2, 3)]) == [(0, 2), (1, 2), (2, 3)]


def test_a_cycle_is_named() -> None:
    with pytest.raises(FitError, match=r"columns \[1, 2\] hold a cycle"):
        topological_order([(0, 1), (1, 2), (2, 1)], 3)
