"""What the parts of a fitted detector's score are about, in the names of its features."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Detector, Matrix, Term
from detectors.contexts import Contexts
from pipeline.features.normaliser import MatrixColumn, Normaliser
from pipeline.history import Rows, Window

SAMPLE_ROWS = 500
"""Rows from which loadings are taken: their standard errors are about 3 %."""

TOLD = 8
"""How many loadings of a term are kept."""

COLUMN_ID = re.compile(r"c(\d+)")


@dataclass(frozen=True, slots=True)
class Loading:
    """How strongly a matrix column moves a term on normal traffic."""

    column: MatrixColumn
    value: float  # standard deviation of its contribution, signed like its effect


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTerm:
    """A part of a score with the features behind it."""

    term: Term  # a column is called by its feature, `src_bytes` or `service=http`
    about: str  # whom an anomaly of it concerns: flow, src, dst or pair
    loadings: tuple[Loading, ...]  # largest first

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        loadings = [[loading.column.label, loading.value] for loading in self.loadings]
        return {"kind": self.term.kind, "id": self.term.id, "about": self.about, "loadings": loadings}


def named_terms(
    detector: Detector, normaliser: Normaliser, sample: Matrix, sources: Rows | None = None
) -> tuple[NamedTerm, ...]:
    """Return what each part of a detector's score is about.

    A term of one column (residual, node, feature) concerns whom that column's feature concerns; a
    noise direction, whom the feature with the largest loading concerns. Terms of contexts are named
    behind them, `tcp:n3` or `udp:src_bytes`, by their own rows.

    Parameters
    ----------
    detector : Detector
        Fitted.
    normaliser : Normaliser
        The one that `detector` was fitted behind.
    sample : ndarray of shape (n, d)
        Held-out normal rows; at most `SAMPLE_ROWS` of them, evenly spaced, are used.
    sources : ndarray of shape (n,), optional
        Of each row, see `source_numbers`; left out, all rows are of one source.
    """
    about = {feature.name: feature.about for feature in normaliser.inputs}
    if not isinstance(detector, Contexts):
        return tuple(_named(detector, normaliser.columns, about, sample, sources))
    return tuple(
        replace(named, term=replace(named.term, id=f"{part.name}:{named.term.id}"))
        for part in detector.parts(sample)
        for named in _named(part.detector, [normaliser.columns[j] for j in part.columns], about, part.x)
    )


def _named(
    detector: Detector,
    columns: Sequence[MatrixColumn],
    about: Mapping[str, str],
    sample: Matrix,
    sources: Rows | None = None,
) -> Iterator[NamedTerm]:
    """Yield what `named_terms` returns, for a detector of these columns."""
    loadings = _loadings(detector, sample, sources)
    for term, values in zip(detector.labels, loadings, strict=True):
        own = own_column(term, columns)
        order = np.argsort(-np.abs(values), kind="stable")[:TOLD]
        leading = own or columns[order[0]]
        yield NamedTerm(
            term=renamed(term, columns),
            about=about[leading.feature],
            loadings=tuple(Loading(columns[j], float(values[j])) for j in order if values[j]),
        )


def own_column(term: Term, columns: Sequence[MatrixColumn]) -> MatrixColumn | None:
    """Return the column that a term is named after, if it is one."""
    match = COLUMN_ID.fullmatch(term.id)
    if term.kind == "noise_direction" or match is None or int(match[1]) >= len(columns):
        return None
    return columns[int(match[1])]


def renamed(term: Term, columns: Sequence[MatrixColumn]) -> Term:
    """Return `term` with the name of its column in place of the column's number.

    Examples
    --------
    >>> renamed(Term(kind="residual", id="c1"), [MatrixColumn("land"), MatrixColumn("service", "http")])
    Term(kind='residual', id='service=http')
    """
    own = own_column(term, columns)
    return term if own is None else replace(term, id=own.label)


def _loadings(detector: Detector, sample: Matrix, sources: Rows | None) -> npt.NDArray[np.float64]:
    """Return the spread of each column's contribution to each term, (k, d), with its sign."""
    window = Window.of_matrix(detector, sample, sources)
    rows = np.arange(0, len(sample), max(1, len(sample) // SAMPLE_ROWS))[:SAMPLE_ROWS]
    x, contributions = sample[rows], window.explain(rows).contributions
    centred = contributions - contributions.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    along = np.einsum("nkd,nd->kd", centred, x - x.mean(axis=0))
    return np.asarray(np.copysign(spread, along))
