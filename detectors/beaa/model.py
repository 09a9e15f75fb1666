"""What a fitted autoencoder knows: affine maps, applied in tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from detectors.base import Explanation, Matrix, Scores, State, Term
from detectors.beaa.plan import Plan
from detectors.beaa.scoring import (
    Autoencoder,
    Scale,
    expected_values,
    mean_square,
    raw_values,
    whitened_values,
)
from detectors.errors import StateError
from detectors.state import array
from detectors.tiles import Projection, by_tiles

FORMS: Mapping[str, tuple[str, ...]] = {
    "summed": ("both",),
    "noise": ("noise",),
    "reconstruction": ("residual",),
    "combined": ("noise", "residual"),
}
"""Measure -> the quadratic forms it is made of."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The published member's deviations and parts, and the ensemble's quadratic forms."""

    measure: str
    kind: str  # what the score is, for explanations
    deviations: Projection  # noise values, then residuals, whitened: (m + d, d)
    parts: Projection  # what the score squares: the deviations, or unwhitened values
    forms: Mapping[str, Projection]  # name -> map whose squared norm is the ensemble's
    expected: Projection  # (d, d)
    loadings: Matrix  # (d, m), in units of x
    report: dict[str, Any]

    @classmethod
    def of(
        cls,
        autoencoders: Sequence[Autoencoder],
        held_out: Matrix,
        *,
        scale: Scale,
        plan: Plan,
        report: dict[str, Any],
    ) -> Self:
        """Return the model of an ensemble, `held_out` in model units; the first member is published."""
        m = autoencoders[0][0].loadings.shape[1]
        white = [whitened_values(each, held_out, plan.whitening, plan.prior_rows) for each in autoencoders]
        parts = [raw_values(each) for each in autoencoders] if plan.whitening == "none" else white
        rows = {"both": slice(None), "noise": slice(0, m), "residual": slice(m, None)}
        forms = {
            name: scale.fold(*mean_square([(w[rows[name]], c[rows[name]]) for w, c in parts]))
            for name in FORMS[plan.measure]
        }
        return cls(
            plan.measure,
            plan.score_kind,
            scale.fold(*white[0]),
            scale.fold(*parts[0]),
            forms,
            expected_values(autoencoders[0], scale),
            scale.spread[:, None] * autoencoders[0][0].loadings,
            report,
        )

    @property
    def n_columns(self) -> int:
        """Number of columns d."""
        return int(self.loadings.shape[0])

    @property
    def n_noise(self) -> int:
        """Number of noise directions m."""
        return int(self.loadings.shape[1])

    @property
    def labels(self) -> tuple[Term, ...]:
        """Noise directions n1 .. nm, by the variance they explain; then a residual a column."""
        directions = (Term(kind="noise_direction", id=f"n{k + 1}") for k in range(self.n_noise))
        residuals = (Term(kind="residual", id=f"c{j}") for j in range(self.n_columns))
        return (*directions, *residuals)

    def score(self, x: Matrix) -> Scores:
        """Return the ensemble's score of each row."""
        return by_tiles(x, self._score, 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return the score in the proportions of the published member's squares, (n, m + d)."""
        return by_tiles(x, lambda tile: self._shares(tile) * self._score(tile), self.n_noise + self.n_columns)

    def explain(self, x: Matrix) -> Explanation:
        """Say which noise directions and residuals make the score, and which columns push them."""
        return Explanation(
            score_kind=self.kind,
            additive=True,
            labels=self.labels,
            terms=self.terms(x),
            deviations=self.deviations(x),
            contributions=self.deviations.contributions(x),
            constants=self.deviations.constants,
            expected=self.expected(x),
        )

    def _score(self, tile: Matrix) -> Matrix:
        norms = [form.squared_norms(tile) for form in self.forms.values()]
        if self.measure == "summed":
            return norms[0]
        # The root of each factor first: the product of two squared norms may overflow.
        roots = [np.sqrt(norm) for norm in norms]
        return roots[0] if len(roots) == 1 else roots[0] * roots[1]

    def _shares(self, tile: Matrix) -> Matrix:
        """Return each part's share of the score, (m + d, 256).

        A norm is the sum of y_k^2 / norm (Euler's theorem), and in a product of two norms each has
        half of the score. Values that are no part of the measure have no share.
        """
        squares = self.parts.on_tile(tile) ** 2
        m = self.n_noise
        shares = np.zeros_like(squares)
        blocks = {"both": slice(None), "noise": slice(0, m), "residual": slice(m, None)}
        for name in self.forms:
            block = squares[blocks[name]]
            total = np.add.reduce(block, axis=0, keepdims=True)
            even = np.full_like(block, 1.0 / len(block))
            np.divide(block, total, out=even, where=total > 0)
            shares[blocks[name]] = even / len(self.forms)
        return shares

    def state(self) -> State:
        """Return all of it as JSON values and arrays."""
        maps = {"deviations": self.deviations, "parts": self.parts, "expected": self.expected}
        maps |= {f"form.{name}": form for name, form in self.forms.items()}
        arrays = {"loadings": self.loadings}
        for name, each in maps.items():
            arrays |= {f"{name}.weights": each.weights, f"{name}.constants": each.constants}
        return State(parameters={"measure": self.measure, "report": self.report}, arrays=arrays)

    @classmethod
    def restored(cls, state: State, plan: Plan) -> Self:
        """Return the model that `state` came from."""
        saved, measure = state.parameters.get("measure"), plan.measure
        if saved != measure:
            raise StateError(f"the saved state scores {saved!r}, the detector {measure!r}")
        loadings = array(state, "loadings", None, None)
        d, m = loadings.shape
        return cls(
            measure,
            plan.score_kind,
            _map(state, "deviations", m + d, d),
            _map(state, "parts", m + d, d),
            {name: _map(state, f"form.{name}", None, d) for name in FORMS[measure]},
            _map(state, "expected", d, d),
            loadings,
            dict(state.parameters.get("report", {})),
        )


def _map(state: State, name: str, k: int | None, d: int) -> Projection:
    weights = array(state, f"{name}.weights", k, d)
    return Projection(weights, array(state, f"{name}.constants", len(weights)))
