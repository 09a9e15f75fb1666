"""Detectors whose `fit` makes a model that knows the rest: the frame that most of them share."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from detectors.base import (
    Detector,
    Explanation,
    Matrix,
    Progress,
    Scores,
    Sources,
    State,
    Term,
    check_rows,
    fitted,
    no_progress,
)
from detectors.checks import check_training
from detectors.errors import FitError, ShapeError
from detectors.parameters import one_of, parameters_of

BY_VARIANT: Any = None
"""Default of a parameter whose value depends on `variant`; replaced by it when the detector is made."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Training:
    """What `fit` is given; the matrices are checked."""

    normal: Matrix
    held_out: Matrix
    rng: np.random.Generator
    anomalies: Matrix | None = None
    unlabelled: Matrix | None = None
    sources: Sources | None = None
    progress: Progress = no_progress


class Model(Protocol):
    """What `fit` has learned; rows that reach it are checked."""

    @property
    def labels(self) -> tuple[Term, ...]:
        """What each of the k terms is about."""

    @property
    def n_columns(self) -> int:
        """Number of matrix columns d."""

    def score(self, x: Matrix) -> Scores:
        """Return (n,)."""

    def terms(self, x: Matrix) -> Matrix:
        """Return (n, k)."""

    def explain(self, x: Matrix) -> Explanation:
        """Return the explanation of n rows."""

    def state(self) -> State:
        """Return all of it."""


@dataclass(kw_only=True, eq=False)
class ModelDetector(Detector):
    """A detector whose subclass says how a model is learned, and how it is read from a state."""

    least_rows: ClassVar[int] = 10
    """Fewer normal rows are refused."""

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Variant -> values of the parameters whose default is `BY_VARIANT`."""

    _model: Model | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.variants:
            variant = getattr(self, "variant", None)
            one_of("variant", variant, list(self.variants))
            for name, value in self.variants[str(variant)].items():
                if getattr(self, name) is BY_VARIANT:
                    setattr(self, name, value)
        self.check()

    def check(self) -> None:
        """Refuse parameters out of their range, with ParameterError."""

    def least(self, n_columns: int) -> int:
        """Return the least number of normal rows; fewer are refused."""
        del n_columns
        return self.least_rows

    @abstractmethod
    def learn(self, data: Training) -> Model:
        """Return a model of the normal rows."""

    @abstractmethod
    def revive(self, state: State) -> Model:
        """Return the model that a state holds; StateError if something is missing or misshapen."""

    def fit(
        self,
        normal: Matrix,
        *,
        held_out: Matrix,
        rng: np.random.Generator,
        anomalies: Matrix | None = None,
        unlabelled: Matrix | None = None,
        sources: Sources | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Learn what is normal, forgetting any earlier fit; stop and scale by `held_out`."""
        check_training(self, normal, held_out, least=self.least(normal.shape[-1]))
        for name, rows in (("anomalies", anomalies), ("unlabelled", unlabelled)):
            if rows is not None:
                check_rows(rows, normal.shape[1], where=f"{self.name}.fit, {name}")
        self._check_sources(sources, normal=normal, held_out=held_out, unlabelled=unlabelled)
        data = Training(
            normal=normal,
            held_out=held_out,
            rng=rng,
            anomalies=anomalies,
            unlabelled=unlabelled,
            sources=sources,
            progress=progress,
        )
        try:
            self._model = self.learn(data)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise FitError(f"{self.name}.fit needs torch; install it: pip install 'weir[neural]'") from error
        return self

    def _check_sources(self, sources: Sources | None, **rows: Matrix | None) -> None:
        """Refuse sources that are not one number a row."""
        for name, numbers in (sources._asdict() if sources else {}).items():
            many, given = rows[name], numbers
            if many is not None and given is not None and given.shape != (len(many),):
                raise ShapeError(
                    f"{self.name}.fit: sources of {name} have shape {given.shape}, expected ({len(many)},), "
                    "a number for each row"
                )

    def score(self, x: Matrix) -> Scores:
        """Score each row, alone or with its history; higher is more anomalous."""
        return self._checked(x, "score").score(x)

    def terms(self, x: Matrix) -> Matrix:
        """Return the parts of each row's score, (n, k)."""
        return self._checked(x, "terms").terms(x)

    def explain(self, x: Matrix) -> Explanation:
        """Say why each row scores as it does."""
        return self._checked(x, "explain").explain(x)

    @property
    def labels(self) -> tuple[Term, ...]:
        """What each of the k terms is about."""
        return fitted(self, self._model, "labels").labels

    @property
    def n_columns(self) -> int:
        """Number of columns seen in `fit`."""
        return fitted(self, self._model, "n_columns").n_columns

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters, with those of the variant."""
        return parameters_of(self)

    def state(self) -> State:
        """Return all that `fit` learned."""
        return fitted(self, self._model, "state").state()

    def restore(self, state: State) -> Self:
        """Take over a saved state."""
        self._model = self.revive(state)
        return self

    def _checked(self, x: Matrix, method: str) -> Model:
        model = fitted(self, self._model, method)
        check_rows(x, model.n_columns, where=f"{self.name}.{method}", history=self.history)
        return model
