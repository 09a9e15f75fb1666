"""The rows before a message's own that sequence detectors look back on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.base import Detector, Explanation, Matrix, Scores
from pipeline.features.normaliser import Normaliser

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """Rows with those before them, as one detector sees them.

    A detector that looks back on nothing sees the rows alone. Where a lane has had fewer rows than a
    detector looks back on, its first row stands for what was before it.

    Parameters
    ----------
    detector : Detector
    x : ndarray of shape (history + n, d)
        `detector.history` rows before, then the n rows.
    """

    detector: Detector
    x: Matrix

    @classmethod
    def of(
        cls,
        detector: Detector,
        normaliser: Normaliser,
        rows: pa.RecordBatch,
        before: pa.RecordBatch | None = None,
    ) -> "Window":
        """Return the window of some features, behind those of the same lane before them."""
        x = normaliser.matrix(rows)
        past = x[:0] if before is None or not detector.history else normaliser.matrix(before)
        return cls(detector, behind(past, x, detector.history))

    @property
    def scores(self) -> Scores:
        """The score of each of the n rows."""
        if len(self.x) <= self.detector.history:
            return np.zeros(0)
        return self.detector.score(self.x)

    def terms(self, rows: Rows) -> Matrix:
        """Return the terms of some of the n rows, (len(rows), k)."""
        if not self.detector.history:
            return self.detector.terms(self.x[rows])
        found = [self.detector.terms(self._one(row)) for row in rows]
        return np.concatenate(found) if found else np.zeros((0, len(self.detector.labels)))

    def explain(self, rows: Rows) -> Explanation:
        """Return the explanation of some of the n rows; at least one."""
        if not self.detector.history:
            return self.detector.explain(self.x[rows])
        return joined([self.detector.explain(self._one(row)) for row in rows])

    def _one(self, row: int) -> Matrix:
        return self.x[row : row + self.detector.history + 1]


def behind(past: Matrix, x: Matrix, history: int) -> Matrix:
    """Return x behind exactly `history` rows: the last of `past`, the first row of all standing for more."""
    if not history:
        return x
    known = np.concatenate([past[max(0, len(past) - history) :], x])
    missing = history + len(x) - len(known)
    return np.concatenate([np.repeat(known[:1], missing, axis=0), known]) if missing and len(known) else known


def joined(parts: Sequence[Explanation]) -> Explanation:
    """Return the explanations of several rows as one."""
    first = parts[0]
    return Explanation(
        score_kind=first.score_kind,
        additive=first.additive,
        labels=first.labels,
        terms=np.concatenate([part.terms for part in parts]),
        deviations=np.concatenate([part.deviations for part in parts]),
        contributions=np.concatenate([part.contributions for part in parts]),
        constants=first.constants,
        expected=np.concatenate([part.expected for part in parts]),
    )


def last_rows(before: pa.RecordBatch | None, rows: pa.RecordBatch, history: int) -> pa.RecordBatch | None:
    """Return the last `history` rows of a lane that has got some more; None where none are looked back on."""
    if not history:
        return None
    if before is None or rows.num_rows >= history:
        kept = rows.slice(max(0, rows.num_rows - history))
    else:
        more = before.slice(max(0, before.num_rows + rows.num_rows - history))
        kept = pa.concat_batches([more, rows]) if rows.num_rows else more
    # A slice would keep its whole message in memory.
    return kept.take(pa.array(range(kept.num_rows), pa.int64()))
