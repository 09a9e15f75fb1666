"""The baseline that is hard to beat: the distance to the nearest normal flow."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detectors.base import Explanation, Matrix, Scores, State, Term
from detectors.errors import StateError
from detectors.model import ModelDetector, Training
from detectors.parameters import whole
from detectors.parts.sum import alone
from detectors.state import array
from detectors.tiles import by_tiles


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    rows: Matrix  # (r, d)
    half_squares: Scores  # (r,), |row|^2 / 2
    spread: Scores  # (d,), of held-out rows about their neighbours

    @classmethod
    def of(cls, rows: Matrix, spread: Scores) -> Self:
        return cls(rows, 0.5 * np.einsum("ij,ij->i", rows, rows), spread)

    def offsets(self, tile: Matrix, k: int) -> Matrix:
        """Return each row minus its k-th nearest reference row, (d, 256).

        Candidates are found by a matrix product, which loses digits where rows nearly coincide;
        the distances among them, and so the order of the k, are then computed exactly.
        """
        columns = np.ascontiguousarray(tile[:-1].T)
        # |x|^2 is the same for all reference rows: it is left out of the comparison.
        closeness = self.half_squares - columns @ self.rows.T
        many = min(k + SPARE, len(self.rows))
        near = np.argpartition(closeness, many - 1, axis=1)[:, :many]
        gaps = columns[:, None, :] - self.rows[near]
        squares = np.einsum("ijk,ijk->ij", gaps, gaps)
        order = np.lexsort((near, squares), axis=1)[:, k - 1]
        chosen: Matrix = gaps[np.arange(len(columns)), order].T
        return chosen


SPARE = 4
"""Candidates beyond k that are measured exactly."""


def _norm(gaps: Matrix) -> Matrix:
    total: Matrix = np.sqrt(np.add.reduce(gaps * gaps, axis=0, keepdims=True))
    return total


def _parts(gaps: Matrix) -> Matrix:
    """Return the squares over the norm; all zero where the norm is."""
    norm = _norm(gaps)
    parts = np.zeros_like(gaps)
    np.divide(gaps * gaps, norm, out=parts, where=norm > 0)
    return parts


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Distances to the k-th nearest reference row."""

    reference: _Reference
    k: int

    @property
    def labels(self) -> tuple[Term, ...]:
        """One feature term a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(self.n_columns))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.reference.spread.size

    def gaps(self, tile: Matrix) -> Matrix:
        """Return each row minus its neighbour, (d, 256)."""
        return self.reference.offsets(tile, self.k)

    def score(self, x: Matrix) -> Scores:
        """Return the distance to the k-th nearest normal flow, in [0, inf)."""
        return by_tiles(x, lambda tile: _norm(self.gaps(tile)), 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return each column's part of the distance, (n, d)."""
        return by_tiles(x, lambda tile: _parts(self.gaps(tile)), x.shape[1])

    def explain(self, x: Matrix) -> Explanation:
        """Say in which columns each flow differs from its neighbour.

        The deviation of a column depends on itself alone, in units of the usual difference of
        normal flows from their neighbours.
        """
        d = self.n_columns
        gaps = by_tiles(x, self.gaps, d)
        deviations = gaps / self.reference.spread
        return Explanation(
            score_kind="neighbour_distance",
            additive=True,
            labels=self.labels,
            terms=by_tiles(gaps, lambda tile: _parts(tile[:-1]), d),
            deviations=deviations,
            contributions=alone(deviations),
            constants=np.zeros(d),
            expected=x - gaps,
        )

    def state(self) -> State:
        """Return the reference rows."""
        return State(arrays={"rows": self.reference.rows, "spread": self.reference.spread})


@dataclass(kw_only=True, eq=False)
class NearestNeighbours(ModelDetector):
    """Score a flow by its Euclidean distance to the k-th nearest normal flow.

    The terms are the columns' squared differences to that neighbour, divided by the distance: they
    sum to it.

    Parameters
    ----------
    k : int
        Which neighbour; the first is the strongest on the tables where it was compared.
    max_reference : int
        Normal rows kept as reference, drawn at random if there are more. Time and memory of a
        score grow with it.
    """

    k: int = 1
    max_reference: int = 10_000

    name = "knn"
    columns = frozenset({"numeric", "binary", "categorical"})

    def check(self) -> None:
        """Refuse parameters out of their range."""
        whole("k", self.k, least=1)
        whole("max_reference", self.max_reference, least=self.k)

    def least(self, n_columns: int) -> int:
        """Return k."""
        del n_columns
        return self.k

    def learn(self, data: Training) -> Neighbours:
        """Keep reference rows; learn by held-out rows how far normal rows lie from them."""
        normal = data.normal
        many = min(self.max_reference, len(normal))
        rows = normal[np.sort(data.rng.choice(len(normal), many, replace=False))]
        first = Neighbours(_Reference.of(np.ascontiguousarray(rows), np.ones(rows.shape[1])), self.k)
        data.progress("distances of held-out rows", 0.5)
        gaps = by_tiles(data.held_out[: self.max_reference], first.gaps, first.n_columns)
        spread = np.sqrt(np.mean(gaps**2, axis=0))
        data.progress("reference rows", 1.0)
        reference = _Reference.of(first.reference.rows, np.where(spread > 0, spread, 1.0))
        return Neighbours(reference, self.k)

    def revive(self, state: State) -> Neighbours:
        """Return reference rows."""
        rows = array(state, "rows", None, None)
        if len(rows) < self.k:
            raise StateError(f"the saved state has {len(rows)} reference rows, k is {self.k}")
        return Neighbours(_Reference.of(rows, array(state, "spread", rows.shape[1])), self.k)
