"""Isolation: how few random splits it takes to part a flow from the normal ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Scores, State
from detectors.errors import StateError
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole
from detectors.parts.columns import ByColumn
from detectors.parts.sum import Arrays, SumOfParts, summed
from detectors.state import array

KIND = "splits_saved"

Nodes = npt.NDArray[np.intp]
"""Numbers of nodes, counted through all trees."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Trees as arrays, one node behind the other; a leaf's children are the leaf itself.

    Parameters
    ----------
    column : ndarray of shape (n_nodes,)
    threshold : ndarray of shape (n_nodes,)
        A row goes to the left child if its value of the column is at most the threshold.
    children : ndarray of shape (n_nodes, 2)
        The right one, the left one.
    length : ndarray of shape (n_nodes,)
        Path length that a training row which comes to the node may expect; at a leaf, its depth and what
        its rows would still take [1]_, equation 1.
    roots : ndarray of shape (n_trees,)
    depth : int
        Of the deepest tree.

    References
    ----------
    .. [1] Liu, Ting & Zhou (2008), Isolation forest, ICDM.
    """

    column: Nodes
    threshold: Scores
    children: Nodes
    length: Scores
    roots: Nodes
    depth: int

    @classmethod
    def of(cls, column: Nodes, threshold: Scores, children: Nodes, length: Scores, roots: Nodes) -> "Forest":
        """Return the forest of these nodes."""
        depth, level = 0, roots
        while (inner := level[children[level, 0] != level]).size:
            level = np.unique(children[inner])
            depth += 1
        return cls(column, threshold, children, length, roots, depth)

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return how much shorter than expected the paths of each row are, in the mean, (1, 256)."""
        values, at = _as_split(tile), self._start(tile)
        for _ in range(self.depth):
            at = self._below(at, self._places(at), values)
        saved: Matrix = (self.length[self.roots][:, None] - self.length.take(at)) / len(self.roots)
        return summed(saved)

    def by_column(self, tile: Matrix) -> Matrix:
        """Return what the splits of each column take away from the path length, (d, 256).

        A split is worth the difference of what is to be expected before and behind it; along a path these
        add up to the length expected at the root minus that at the leaf.
        """
        values, at = _as_split(tile), self._start(tile)
        total = np.zeros(tile.size)
        for _ in range(self.depth):
            places = self._places(at)
            below = self._below(at, places, values)
            saved = self.length.take(at) - self.length.take(below)  # nothing at a leaf
            total += np.bincount(places.ravel(), weights=saved.ravel(), minlength=tile.size)
            at = below
        result: Matrix = total.reshape(tile.shape) / len(self.roots)
        return result

    def _start(self, tile: Matrix) -> Nodes:
        return np.repeat(self.roots[:, None], tile.shape[1], axis=1)

    def _places(self, at: Nodes) -> Nodes:
        """Return where in the tile, one row behind the other, the value lies that each node asks for."""
        places: Nodes = self.column.take(at) * at.shape[1] + np.arange(at.shape[1])
        return places

    def _below(self, at: Nodes, places: Nodes, values: Scores) -> Nodes:
        goes_left = values.take(places) <= self.threshold.take(at)
        return self.children.take(2 * at + goes_left)

    def arrays(self) -> Arrays:
        """Return the trees: a row a node, and the roots."""
        parts = (self.column, self.threshold, self.children, self.length)
        return {"nodes": np.column_stack(parts).astype(np.float64), "roots": self.roots.astype(np.float64)}

    @classmethod
    def restored(cls, state: State, n_columns: int) -> "Forest":
        """Return what a state holds."""
        nodes, roots = array(state, "nodes", None, 5), array(state, "roots", None)
        children = _numbers("nodes", nodes[:, 2:4], len(nodes))
        if (children < np.arange(len(nodes))[:, None]).any():
            raise StateError("array 'nodes' has a child before its parent; train the model again")
        column, threshold, length = (np.ascontiguousarray(nodes[:, j]) for j in (0, 1, 4))
        roots_ = _numbers("roots", roots, len(nodes))
        return cls.of(_numbers("nodes", column, n_columns), threshold, children, length, roots_)


def _as_split(tile: Matrix) -> Scores:
    """Return a tile's values as scikit-learn compares them with thresholds, rounded to single precision."""
    return np.ascontiguousarray(tile).astype(np.float32).astype(np.float64).ravel()


def _numbers(name: str, values: npt.NDArray[np.float64], end: int) -> Nodes:
    if not (np.equal(values, np.round(values)).all() and (values >= 0).all() and (values < end).all()):
        raise StateError(f"array {name!r} points outside of 0 .. {end - 1}; train the model again")
    return np.ascontiguousarray(values, dtype=np.intp)


def average_path(n: npt.NDArray[Any]) -> Scores:
    """Return the mean path length of unsuccessful searches among n rows.

    Examples
    --------
    >>> average_path(np.array([1, 2, 256])).round(3)
    array([ 0.   ,  1.   , 10.245])
    """
    many = np.maximum(n, 3).astype(np.float64)
    rest = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, rest))


def planted(trees: list[Any]) -> Forest:
    """Return scikit-learn's trees as arrays."""
    first = np.cumsum([0, *(tree.node_count for tree in trees)])
    parts = [_nodes(tree, start) for tree, start in zip(trees, first[:-1], strict=True)]
    column, threshold, children, length = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Forest.of(column.astype(np.intp), threshold, children.astype(np.intp), length, first[:-1])


def _nodes(tree: Any, first: int) -> tuple[Nodes, Scores, Nodes, Scores]:
    """Return a tree's columns, thresholds, children and lengths; its root is node `first`."""
    both = np.column_stack([tree.children_right, tree.children_left])
    leaf = both[:, 0] < 0
    children = np.where(leaf[:, None], np.arange(tree.node_count)[:, None], both) + first
    return np.where(leaf, 0, tree.feature), np.where(leaf, 0.0, tree.threshold), children, _lengths(tree)


def _lengths(tree: Any) -> Scores:
    """Return the path length expected at each node of a tree: the mean over its training rows."""
    rows = tree.n_node_samples.astype(np.float64)
    depth = np.zeros(tree.node_count)
    inner = np.flatnonzero(tree.children_left >= 0)  # parents come before their children
    for node in inner:
        depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1
    length = depth + average_path(tree.n_node_samples)
    for node in inner[::-1]:
        children = [tree.children_left[node], tree.children_right[node]]
        length[node] = rows[children] @ length[children] / rows[node]
    return length


@dataclass(kw_only=True, eq=False)
class IsolationForest(ModelDetector):
    """Score a flow by how few random splits part it from normal flows.

    Trees split random columns at random places until each of a few normal rows is alone [1]_; what is
    parted early is anomalous. scikit-learn grows the trees; they are kept and asked as arrays. The score is
    the path length that is expected at the root, minus that of the row, in the mean over the trees. The
    paper's score 2^(-E[h] / c) is a falling function of the same mean path length, so both rank alike; this
    one is a sum over the splits on the way, and so over the columns: a column's term is what its splits take
    away from the path length that is still to be expected.

    Known weaknesses: splits of single columns hardly see dependencies between them; rows come in steps; and
    beyond the training rows there is no split, so that however large a value, it can save but a few. The
    defaults take more trees than the paper, for smaller steps and seeds that agree, and add the squares of
    how far a column lies outside `cap`, the score then being counted in its standard deviations on held-out
    rows. `variant="paper"` has the paper's numbers and nothing beyond.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    n_trees : int
        Trees.
    n_sample : int
        Normal rows that a tree is grown from; also bounds its depth, to the logarithm of it.
    beyond : bool
        Whether what lies outside the bounds counts.
    cap : float
        Where outside begins: so far beyond the range of the training rows, in units of the column.

    References
    ----------
    .. [1] Liu, Ting & Zhou (2008), Isolation forest, ICDM, 413-422: 100 trees of 256 rows (section 5).
    """

    variant: str = "stable"
    n_trees: int = BY_VARIANT
    n_sample: int = 256
    beyond: bool = BY_VARIANT
    cap: float = 3.0

    name = "isolation_forest"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {"n_trees": 300, "beyond": True},
        "paper": {"n_trees": 100, "beyond": False},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        whole("n_trees", self.n_trees, least=1)
        whole("n_sample", self.n_sample, least=2)
        one_of("beyond", self.beyond, [True, False])
        between("cap", self.cap, 0.0, 1e12)

    def learn(self, data: Training) -> SumOfParts:
        """Grow the trees on normal rows; held-out rows give the scale of the path lengths."""
        from sklearn import ensemble

        inputs = Inputs.of(data.normal, cap=self.cap)
        normal = inputs.matrix(data.normal)
        data.progress("trees", 0.0)
        grown = ensemble.IsolationForest(
            n_estimators=self.n_trees,
            max_samples=min(self.n_sample, len(normal)),
            random_state=int(data.rng.integers(2**31)),
        ).fit(normal)
        forest = planted([each.tree_ for each in grown.estimators_])
        part = ByColumn.of(forest, typical(normal), inputs.matrix(data.held_out), beyond=self.beyond)
        data.progress("trees", 1.0)
        return SumOfParts(inputs, [part], KIND)

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        forest = Forest.restored(state, inputs.n_columns)
        part = ByColumn.restored(state, forest, inputs.n_columns, beyond=self.beyond)
        return SumOfParts(inputs, [part], KIND)
