"""One model for each context, such as a transport protocol: what is rare among its own kind stands out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.base import Detector, Matrix, State, fitted
from detectors.context_model import ANY, Context, ContextModel, Part, Places, Routes
from detectors.errors import FitError, ParameterError
from detectors.model import ModelDetector, Training
from detectors.parameters import whole
from detectors.rarity import Rarity
from detectors.registry import create


@dataclass(kw_only=True, eq=False)
class Contexts(ModelDetector):
    """Score a flow by how rare its score is among the flows of its own context.

    One detector is fitted for each context with enough rows, and one on all rows, which judges the rest
    and contexts that training never saw: so there is always a model, however few the rest are. The score
    is the rarity (`detectors.rarity`) of a detector's score among the held-out rows of its context. The
    calibration that follows is one for all rows, so the false-alarm rate that is stated holds for all of
    them together. That of each context is about the same, as far as its held-out rows tell it: no
    guarantee holds for one context, and the rest is compared with all held-out rows.

    A row's terms are those of its own context, by names such as `tcp:n3`.

    Parameters
    ----------
    detector : str
        Name of the detector to fit; one that looks at rows alone and learns from normal ones alone.
    settings : mapping
        Its parameters.
    routes : sequence of int
        Columns of the matrix that tell the context of a row: the one above 0.5, the largest of several.
        Detectors that take no categories are not given them.
    names : sequence of str
        The context of each route; "" is never given a model of its own.
    least_fit, least_held_out : int
        Rows that a context needs for one.
    """

    detector: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    routes: Sequence[int] = ()
    names: Sequence[str] = ()
    least_fit: int = 1000
    least_held_out: int = 200

    name = "contexts"
    columns = frozenset({"numeric", "binary", "categorical"})

    _model: ContextModel | None = field(default=None, init=False, repr=False)

    def check(self) -> None:
        """Refuse parameters out of their range."""
        if not self.detector or not self.routes:
            raise ParameterError(
                "contexts: no detector or no routes are given; it is no detector by itself: name another "
                "one, and the feature that tells contexts apart (weir train --contexts transport)"
            )
        inner = create(self.detector, self.settings)
        if inner.history or inner.uses:
            why = "looks back on rows" if inner.history else f"learns from {', '.join(sorted(inner.uses))}"
            raise ParameterError(
                f"{self.detector} {why}, which a context cuts apart; take another detector, or no contexts"
            )
        if len(self.routes) != len(self.names) or len({*self.names, ANY}) != len(self.names) + 1:
            raise ParameterError(
                f"contexts.names is {list(self.names)}, expected {len(self.routes)} names that differ, "
                f"none of them {ANY!r}"
            )
        for route in self.routes:
            whole("contexts.routes", route, least=0)
        whole("contexts.least_fit", self.least_fit, least=1)
        whole("contexts.least_held_out", self.least_held_out, least=1)
        self.mode = inner.mode

    def learn(self, data: Training) -> ContextModel:
        """Fit a detector for each context with enough rows, and one for all rows."""
        n_columns = data.normal.shape[1]
        if max(self.routes) >= n_columns:
            raise FitError(
                f"contexts: {n_columns} columns, expected at least {max(self.routes) + 1}: "
                f"the routes are {list(self.routes)}"
            )
        columns = self._taken(n_columns)
        found = [
            self._context(name, data, normal, held_out, columns)
            for name, normal, held_out in self._enough(data, columns.size)
        ]
        all_rows = np.arange(len(data.normal)), np.arange(len(data.held_out))
        return self._assembled((*found, self._context(ANY, data, *all_rows, columns)), n_columns)

    def _enough(self, data: Training, n_taken: int) -> Iterator[tuple[str, Places, Places]]:
        """Yield the contexts with enough rows: name, normal and held-out rows."""
        inner = self._inner()
        least = max(self.least_fit, inner.least(n_taken) if isinstance(inner, ModelDetector) else 0)
        normal, held_out = (self._routes.of(x) for x in (data.normal, data.held_out))
        for route, name in enumerate(self.names):
            rows, held = np.flatnonzero(normal == route), np.flatnonzero(held_out == route)
            if name and rows.size >= least and held.size >= self.least_held_out:
                yield name, rows, held

    def _context(
        self, name: str, data: Training, normal: Places, held_out: Places, columns: Places
    ) -> Context:
        held = data.held_out[np.ix_(held_out, columns)]
        try:
            detector = self._inner().fit(
                data.normal[np.ix_(normal, columns)],
                held_out=held,
                rng=data.rng,
                progress=lambda what, done: data.progress(f"{name}: {what}", done),
            )
        except FitError as error:
            raise FitError(f"context {name}: {error}") from error
        return Context(
            name=name,
            detector=detector,
            rarity=Rarity.of(detector.score(held)),
            n_fit=normal.size,
            n_held_out=held_out.size,
        )

    def revive(self, state: State) -> ContextModel:
        """Return the models that a state holds."""
        names = state.parameters.get("contexts", {})
        own = tuple(name for name in self.names if name in names)
        contexts = tuple(Context.restored(name, self._inner(), state) for name in (*own, ANY))
        taken = contexts[-1].detector.n_columns
        n_columns = taken if self._takes_routes else taken + len(self.routes)
        return self._assembled(contexts, n_columns)

    def _assembled(self, contexts: tuple[Context, ...], n_columns: int) -> ContextModel:
        return ContextModel(
            contexts=contexts, routes=self._routes, columns=self._taken(n_columns), n_columns=n_columns
        )

    def _inner(self) -> Detector:
        return create(self.detector, self.settings)

    @property
    def _routes(self) -> Routes:
        return Routes(np.array(self.routes, dtype=np.int64), tuple(self.names))

    @property
    def _takes_routes(self) -> bool:
        return "categorical" in self._inner().columns

    def _taken(self, n_columns: int) -> Places:
        """Return the columns that the detectors take."""
        every = np.arange(n_columns)
        return every if self._takes_routes else np.setdiff1d(every, self.routes)

    @property
    def contexts(self) -> tuple[Context, ...]:
        """The fitted contexts, that of all other rows last."""
        return fitted(self, self._model, "contexts").contexts

    def parts(self, x: Matrix) -> Iterator[Part]:
        """Yield each context's model with its rows among some, with all of them where none is its own."""
        return fitted(self, self._model, "parts").parts(x)
