"""What every detector promises."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from detectors.errors import NotFittedError, ShapeError

T = TypeVar("T")

Matrix = npt.NDArray[np.float64]
"""Feature rows, shape (n, d), finite."""

Scores = npt.NDArray[np.float64]
"""Anomaly scores, shape (n,), finite; higher is more anomalous."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done in [0, 1]."""


def no_progress(_what: str, _done: float) -> None:
    """Report nothing."""


class Sources(NamedTuple):
    """The number of each row's source, for detectors that look back on rows of the same source."""

    normal: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    unlabelled: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What one part of a score is about."""

    kind: Literal["noise_direction", "residual", "node", "feature"]
    id: str  # a noise direction's stable name ("n3"), or the name of a matrix column


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why rows have the scores they have: n rows, k terms, d matrix columns.

    For additive scores `terms.sum(axis=1)` is the score; `contributions.sum(axis=2) + constants`
    is `deviations`.
    """

    score_kind: str  # what the score is, "whitened_sum", "log_likelihood" ...
    additive: bool
    labels: tuple[Term, ...]  # k
    terms: Matrix  # (n, k), parts of the score, in the score's unit
    deviations: Matrix  # (n, k), signed, in standard deviations of held-out normal traffic
    contributions: npt.NDArray[np.float64]  # (n, k, d), signed, of each column to each deviation
    constants: npt.NDArray[np.float64]  # (k,)
    expected: Matrix  # (n, d), what the model would have expected, in the units of x


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that a fitted detector knows: JSON values and arrays, never pickles."""

    parameters: Mapping[str, Any] = field(default_factory=dict)  # JSON
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


class Detector(ABC):
    """Score flows by how far they lie from the traffic seen in `fit`.

    A detector sees arrays only: no Kafka, no Arrow, no files, no labels of test data. Scoring is
    pure: it changes neither `x` nor the detector, and the bits of a row's score do not depend on
    its neighbours (see `detectors.tiles`).

    Hyper-parameters are keyword arguments of the constructor, JSON values, kept under the same
    names as attributes and listed by `parameters`.
    """

    name: ClassVar[str]
    """Name in the registry."""

    mode: Literal["live", "offline"] = "live"
    """live: pure per row and fast enough for the stream; offline: evaluation only.

    Where parameters decide, a detector sets its own when it is made; the class tells that of the defaults.
    """

    history_of: Literal["lane", "source"] = "lane"
    """Whose rows the `history` of a row are: those of its lane, or of its source alone.

    `fit` of a detector with "source" takes one more keyword, `sources: Sources | None`; None: all rows are
    of one source.
    """

    columns: ClassVar[frozenset[str]] = frozenset({"numeric", "binary"})
    """Kinds of features that the matrix may hold: numeric, binary, categorical (one-hot)."""

    uses: ClassVar[frozenset[str]] = frozenset()
    """What `fit` makes use of beside normal rows, if it is given: anomalies, unlabelled."""

    scaling: ClassVar[Literal["standard", "minmax"]] = "standard"
    """How the numeric columns of the matrix are scaled."""

    @abstractmethod
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
        """Learn what is normal, forgetting any earlier fit; stop and whiten by `held_out`."""

    @property
    def history(self) -> int:
        """Rows before a row that its score depends on, 0 for most; known before `fit`.

        `score`, `terms` and `explain` of a detector with history take (history + n, d) rows in time
        order and answer for the last n; the bits of an answer depend on its row and the `history` rows
        before it alone. Which rows these are is `history_of`, and not seen by the detector: where the rows
        of several sources are given one source after another, answers that lie across a border are not
        used. `fit` takes rows in time order, none of them extra.
        """
        return 0

    @abstractmethod
    def score(self, x: Matrix) -> Scores:
        """Score each row alone, or with its history; (history + n, d) -> (n,)."""

    @abstractmethod
    def terms(self, x: Matrix) -> Matrix:
        """Return the parts of each row's score, (n, k): cheap, for every flagged row."""

    @abstractmethod
    def explain(self, x: Matrix) -> Explanation:
        """Say why each row scores as it does; same terms, in the same order, as `terms`."""

    @property
    @abstractmethod
    def labels(self) -> tuple[Term, ...]:
        """What each of the k terms is about. Columns are called c0 .. c(d-1); callers rename them."""

    @property
    @abstractmethod
    def n_columns(self) -> int:
        """Number of matrix columns d seen in `fit`."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters: `type(self)(**parameters())` builds an equal, unfitted one."""

    @abstractmethod
    def state(self) -> State:
        """Return all that `fit` learned."""

    @abstractmethod
    def restore(self, state: State) -> Self:
        """Take over a state written by `state`; scores are equal bit for bit afterwards.

        Raises
        ------
        StateError
            If something is missing or has another shape.
        """


def check_rows(x: Matrix, n_columns: int, *, where: str, history: int = 0) -> None:
    """Refuse a matrix that a fitted detector cannot score.

    Raises
    ------
    ShapeError
        If `x` is not float64, not (history + n, n_columns), or holds NaN or infinity.
    """
    if x.ndim != 2 or x.shape[1] != n_columns:
        raise ShapeError(f"{where}: x has shape {x.shape}, expected (n, {n_columns}) as fitted")
    if len(x) < history:
        raise ShapeError(
            f"{where}: x has {len(x)} rows, expected at least {history}: those before the first to be scored"
        )
    if x.dtype != np.float64:
        raise ShapeError(f"{where}: x has type {x.dtype}, expected float64")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ShapeError(
            f"{where}: x[{row}, {column}] is {x[row, column]}, expected finite numbers; "
            "check records before scoring"
        )


def fitted(detector: Detector, value: T | None, method: str) -> T:
    """Return `value`, which `fit` sets; raise NotFittedError if it is None."""
    if value is None:
        raise NotFittedError(detector, method)
    return value
