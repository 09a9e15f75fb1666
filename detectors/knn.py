"""The baseline that is hard to beat: the distance to the nearest normal flow."""

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
from detectors.errors import StateError
from detectors.parameters import parameters_of, whole
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


@dataclass(kw_only=True, eq=False)
class NearestNeighbours(Detector):
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

    _reference: _Reference | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        whole("k", self.k, least=1)
        whole("max_reference", self.max_reference, least=self.k)

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
        """Keep reference rows; learn by `held_out` how far normal rows lie from them."""
        del anomalies, unlabelled
        check_training(self, normal, held_out, least=self.k)
        many = min(self.max_reference, len(normal))
        rows = normal[np.sort(rng.choice(len(normal), many, replace=False))]
        reference = _Reference.of(np.ascontiguousarray(rows), np.ones(rows.shape[1]))
        progress("distances of held-out rows", 0.5)
        probe = held_out[: self.max_reference]
        gaps = by_tiles(probe, lambda tile: reference.offsets(tile, self.k), rows.shape[1])
        spread = np.sqrt(np.mean(gaps**2, axis=0))
        self._reference = _Reference.of(reference.rows, np.where(spread > 0, spread, 1.0))
        progress("reference rows", 1.0)
        return self

    def score(self, x: Matrix) -> Scores:
        """Return the distance to the k-th nearest normal flow, in [0, inf)."""
        reference = self._checked(x, "score")
        return by_tiles(x, lambda tile: _norm(reference.offsets(tile, self.k)), 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return each column's part of the distance, (n, d)."""
        reference = self._checked(x, "terms")
        return by_tiles(x, lambda tile: _parts(reference.offsets(tile, self.k)), x.shape[1])

    def explain(self, x: Matrix) -> Explanation:
        """Say in which columns each flow differs from its neighbour.

        The deviation of a column depends on itself alone, in units of the usual difference of
        normal flows from their neighbours.
        """
        reference = self._checked(x, "explain")
        gaps = by_tiles(x, lambda tile: reference.offsets(tile, self.k), x.shape[1])
        deviations = gaps / reference.spread
        d = self.n_columns
        contributions = np.zeros((len(x), d, d))
        contributions[:, np.arange(d), np.arange(d)] = deviations
        return Explanation(
            score_kind="neighbour_distance",
            additive=True,
            labels=self.labels,
            terms=by_tiles(gaps, lambda tile: _parts(tile[:-1]), d),
            deviations=deviations,
            contributions=contributions,
            constants=np.zeros(d),
            expected=x - gaps,
        )

    @property
    def labels(self) -> tuple[Term, ...]:
        """One feature term a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(self.n_columns))

    @property
    def n_columns(self) -> int:
        """Number of columns seen in `fit`."""
        return fitted(self, self._reference, "n_columns").spread.size

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return parameters_of(self)

    def state(self) -> State:
        """Return the reference rows."""
        reference = fitted(self, self._reference, "state")
        return State(arrays={"rows": reference.rows, "spread": reference.spread})

    def restore(self, state: State) -> Self:
        """Take over reference rows."""
        rows = array(state, "rows", None, None)
        if len(rows) < self.k:
            raise StateError(f"the saved state has {len(rows)} reference rows, k is {self.k}")
        self._reference = _Reference.of(rows, array(state, "spread", rows.shape[1]))
        return self

    def _checked(self, x: Matrix, method: str) -> _Reference:
        reference = fitted(self, self._reference, method)
        check_rows(x, reference.spread.size, where=f"{self.name}.{method}")
        return reference


def _norm(gaps: Matrix) -> Matrix:
    total: Matrix = np.sqrt(np.add.reduce(gaps * gaps, axis=0, keepdims=True))
    return total


def _parts(gaps: Matrix) -> Matrix:
    """Return the squares over the norm; all zero where the norm is."""
    norm = _norm(gaps)
    parts = np.zeros_like(gaps)
    np.divide(gaps * gaps, norm, out=parts, where=norm > 0)
    return parts
