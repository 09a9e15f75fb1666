"""A score as the sum of parts, and what every part promises."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from detectors.base import Explanation, Matrix, Scores, State, Term
from detectors.inputs import Inputs
from detectors.tiles import by_tiles

Arrays = dict[str, npt.NDArray[Any]]


class View(NamedTuple):
    """A tile as parts see it."""

    units: Matrix  # (d, 256), in the units of the training rows
    cut: Matrix  # the same within the bounds of what networks are asked


class Because(NamedTuple):
    """What a part says of n rows: see `Explanation`."""

    deviations: Matrix  # (n, k)
    contributions: npt.NDArray[np.float64]  # (n, k, d)
    constants: Scores  # (k,)


class Part(Protocol):
    """A part of a score: the sum of its k terms."""

    def labels(self, n_columns: int) -> tuple[Term, ...]:
        """Return what each of its terms is about."""

    def score(self, view: View) -> Matrix:
        """Return the sum of its terms of each row, (1, 256)."""

    def terms(self, view: View) -> Matrix:
        """Return its terms, (k, 256)."""

    def because(self, units: Matrix, cut: Matrix) -> Because:
        """Explain n rows, given as (n, d)."""

    def expected(self, view: View) -> Matrix | None:
        """Return what it would have expected, (d, 256), in the units of the rows; or nothing."""

    def arrays(self) -> Arrays:
        """Return its numbers, by names that no other part has."""

    def networks(self) -> Mapping[str, list[str]]:
        """Return the activations of its networks, by the networks' names."""


def summed(terms: Matrix) -> Matrix:
    """Return the sum of a tile's terms, (1, 256)."""
    total: Matrix = np.add.reduce(terms, axis=0, keepdims=True)
    return total


def alone(deviations: Matrix) -> npt.NDArray[np.float64]:
    """Return contributions, (n, d, d), of columns whose deviations come from themselves alone."""
    n, d = deviations.shape
    contributions = np.zeros((n, d, d))
    contributions[:, np.arange(d), np.arange(d)] = deviations
    return contributions


def on_rows(units: Matrix, cut: Matrix, function: Callable[[View], Matrix], width: int) -> Matrix:
    """Return (n, width): what `function` makes of the rows in tiles of 256."""
    d = units.shape[1]
    both = np.concatenate([units, cut], axis=1)
    return by_tiles(both, lambda tile: function(View(tile[:d], tile[d : 2 * d])), width)


@dataclass(eq=False)
class SumOfParts:
    """A model whose score is the sum of its parts' terms.

    Parameters
    ----------
    inputs : Inputs
    parts : sequence of Part
    kind : str
        What the score is, for explanations.
    report : mapping
        How training went, JSON values.
    """

    inputs: Inputs
    parts: Sequence[Part]
    kind: str
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_columns(self) -> int:
        """Number of matrix columns."""
        return self.inputs.n_columns

    @cached_property
    def labels(self) -> tuple[Term, ...]:
        """Those of the parts, in order."""
        return tuple(label for part in self.parts for label in part.labels(self.n_columns))

    def _view(self, tile: Matrix) -> View:
        units = self.inputs.units(tile)
        return View(units, self.inputs.cut(units))

    def score(self, x: Matrix) -> Scores:
        """Return the sum of all terms, (n,)."""

        def of_tile(tile: Matrix) -> Matrix:
            view = self._view(tile)
            total = self.parts[0].score(view)
            for part in self.parts[1:]:
                total = total + part.score(view)
            return total

        return by_tiles(x, of_tile, 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return all terms, (n, k)."""

        def of_tile(tile: Matrix) -> Matrix:
            view = self._view(tile)
            return np.concatenate([part.terms(view) for part in self.parts])

        return by_tiles(x, of_tile, len(self.labels))

    def explain(self, x: Matrix) -> Explanation:
        """Return what the parts say."""
        units = by_tiles(x, self.inputs.units, self.n_columns)
        cut = np.clip(units, self.inputs.low, self.inputs.high)
        found = [part.because(units, cut) for part in self.parts]
        return Explanation(
            score_kind=self.kind,
            additive=True,
            labels=self.labels,
            terms=self.terms(x),
            deviations=np.concatenate([each.deviations for each in found], axis=1),
            contributions=np.concatenate([each.contributions for each in found], axis=1),
            constants=np.concatenate([each.constants for each in found]),
            expected=self._expected(x),
        )

    def _expected(self, x: Matrix) -> Matrix:
        """Return what the first part that expects anything does, in the units of x."""

        def of_tile(tile: Matrix) -> Matrix:
            view = self._view(tile)
            found = (part.expected(view) for part in self.parts)
            return next((each for each in found if each is not None), np.zeros_like(view.units))

        return self.inputs.rows(by_tiles(x, of_tile, self.n_columns))

    def state(self) -> State:
        """Return the numbers of inputs and parts."""
        arrays = self.inputs.arrays()
        networks: dict[str, list[str]] = {}
        for part in self.parts:
            arrays |= part.arrays()
            networks |= part.networks()
        return State(parameters={"networks": networks, "report": dict(self.report)}, arrays=arrays)
