"""From a detector's explanation over matrix columns to reasons over features in their own units."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.base import Explanation, Matrix
from pipeline.bundle import Bundle
from pipeline.features.base import UNKNOWN, Feature
from pipeline.verdict import FeatureShare, Reasons, TermShare

TERMS = 5
FEATURES = 5
"""How many terms, and features of each, an alert tells: the largest ones."""
LOADINGS = 3
"""How many columns say what a noise direction stands for."""


def reasons_of(
    bundle: Bundle, features: pa.RecordBatch, explanation: Explanation, watched: npt.NDArray[np.int64]
) -> Iterator[Reasons]:
    """Yield the reasons of each row.

    Parameters
    ----------
    bundle : Bundle
        The model that decided.
    features : RecordBatch
        The rows' raw features.
    explanation : Explanation
        Of the same rows.
    watched : ndarray of shape (n,)
        Index of the watched feature that decided, -1 where the score did.
    """
    folded = bundle.normaliser.contribution_fold(explanation.contributions)  # (n, k, inputs)
    told = _Values(bundle, features, explanation.expected)
    totals = np.abs(explanation.terms).sum(axis=1)
    for row in range(features.num_rows):
        order = np.argsort(-explanation.terms[row], kind="stable")[:TERMS]
        shares = [
            TermShare(
                kind=bundle.term_labels[k].kind,
                id=bundle.term_labels[k].id,
                deviation=float(explanation.deviations[row, k]),
                term=float(explanation.terms[row, k]),
                share=float(explanation.terms[row, k] / totals[row]) if totals[row] else 0.0,
                features=told.shares(row, folded[row, k]),
                loadings=bundle.term_loadings[k][:LOADINGS],
            )
            for k in order
        ]
        if watched[row] >= 0:
            shares.insert(0, told.watched(row, int(watched[row])))
        yield Reasons(
            score_kind=explanation.score_kind, additive=explanation.additive, terms=tuple(shares[:TERMS])
        )


class _Values:
    """Observed and expected values of some rows, in the units of those features that are told."""

    def __init__(self, bundle: Bundle, features: pa.RecordBatch, expected: Matrix) -> None:
        normaliser = bundle.normaliser
        self._inputs = normaliser.inputs
        self._all = bundle.feature_set.features
        # Most features are never told: five of each of five terms.
        self._observed = cache(lambda index: normaliser.observed_of(index, features))
        self._expected = cache(lambda index: normaliser.in_unit(index, expected))
        self._batch = features
        self._constants = normaliser.constants

    def shares(self, row: int, parts: npt.NDArray[np.float64]) -> tuple[FeatureShare, ...]:
        """Return the features that push a term most."""
        order = np.argsort(-np.abs(parts), kind="stable")[:FEATURES]
        return tuple(self._share(row, int(i), float(parts[i])) for i in order if parts[i])

    def _share(self, row: int, index: int, contribution: float) -> FeatureShare:
        feature = self._inputs[index]
        return FeatureShare(
            name=feature.name,
            observed=_plain(self._observed(index)[row]),
            expected=_plain(self._expected(index)[row]),
            unit=feature.unit,
            contribution=contribution,
        )

    def watched(self, row: int, index: int) -> TermShare:
        """Return the reason that a feature left what training saw of it."""
        feature = self._all[index]
        share = FeatureShare(
            name=feature.name,
            observed=_raw(feature, self._batch.column(feature.name)[row].as_py()),
            expected=self._constants[feature.name],
            unit=feature.unit,
            contribution=0.0,
        )
        return TermShare(
            kind="watched", id=feature.name, deviation=0.0, term=0.0, share=1.0, features=(share,)
        )


def _plain(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(value)


def _raw(feature: Feature, value: float) -> float | str:
    if feature.kind != "categorical":
        return float(value)
    known = UNKNOWN < value <= len(feature.vocabulary)
    return feature.vocabulary[int(value) - 1] if known else "(unknown)"
