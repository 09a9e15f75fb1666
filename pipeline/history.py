"""The rows before a message's own that sequence detectors look back on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.base import Detector, Explanation, Matrix, Scores
from detectors.histories import Laid, laid_out
from pipeline.features.normaliser import Normaliser

Rows = npt.NDArray[np.int64]

REACH = 100_000
"""How many rows of a lane the history of a source reaches back.

It bounds what a lane keeps, and what a restart reads again, to some tens of megabytes.
"""

STEPS = 65_536
"""Rows that a detector with history takes at once: many short histories take several times the rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What a lane keeps of its rows, oldest first.

    Parameters
    ----------
    rows : RecordBatch
    ages : ndarray of shape (n,)
        How many rows of the lane there are from each one on; the last one's age is 1.
    """

    rows: pa.RecordBatch
    ages: Rows


@dataclass(frozen=True, slots=True)
class Depth:
    """How far some detectors look back: so many rows of the lane, so many of each source."""

    lane: int = 0
    source: int = 0

    @classmethod
    def of(cls, detectors: Iterable[Detector]) -> "Depth":
        """Return what is enough for all of some detectors."""
        found = {"lane": 0, "source": 0}
        for detector in detectors:
            found[detector.history_of] = max(found[detector.history_of], detector.history)
        return cls(**found)

    def __str__(self) -> str:
        each = f"{self.source} rows of each source"
        return " and ".join([f"{self.lane} rows"] * bool(self.lane) + [each] * bool(self.source))

    @property
    def rows(self) -> int:
        """How many rows of a lane before the next one decide what is looked back on; 0: none are."""
        return REACH if self.source else self.lane

    def past(self, before: Past | None, rows: pa.RecordBatch) -> Past | None:
        """Return what a lane keeps that has got some more rows; None where nothing is looked back on.

        However the rows of a lane are cut, what is kept in the end is the same.
        """
        if not self.rows:
            return None
        ages = np.arange(rows.num_rows, 0, -1)
        if before is not None:
            ages = np.concatenate([before.ages + rows.num_rows, ages])
            rows = pa.concat_batches([before.rows, rows])
        kept = ages <= self.lane
        if self.source:
            kept |= (ages <= REACH) & (_younger(source_numbers(rows)) < self.source)
        chosen = np.flatnonzero(kept)
        # A slice would keep its whole message in memory.
        return Past(rows.take(pa.array(chosen)), ages[chosen])


@dataclass(frozen=True, slots=True)
class Window:
    """Rows with those before them, as one detector sees them.

    A detector that looks back on nothing sees the rows alone. Others look back on the last rows of the
    lane; or on those of the same source, as far as they are among the `REACH` rows of the lane before a
    row. Where there are fewer, the first of them stands for what was before it.

    Parameters
    ----------
    detector : Detector
    x : ndarray of shape (k, d)
        Rows that are looked back on, then the n rows.
    laid : Laid or None
        Each of the n rows behind its history; None for a detector without.
    """

    detector: Detector
    x: Matrix
    laid: Laid | None = None

    @classmethod
    def of(
        cls, detector: Detector, normaliser: Normaliser, rows: pa.RecordBatch, before: Past | None = None
    ) -> "Window":
        """Return the window of some features, behind those of the same lane before them."""
        if not detector.history:
            return cls(detector, normaliser.matrix(rows))
        places = np.arange(rows.num_rows)
        if before is not None:
            past = _looked_back_on(detector, rows, before)
            places = np.concatenate([-past.ages, places])
            rows = pa.concat_batches([past.rows, rows])
        return cls.of_matrix(detector, normaliser.matrix(rows), source_numbers(rows), places)

    @classmethod
    def of_matrix(
        cls, detector: Detector, x: Matrix, sources: Rows | None, places: Rows | None = None
    ) -> "Window":
        """Return the window of the rows of a matrix.

        Parameters
        ----------
        detector : Detector
        x : ndarray of shape (k, d)
        sources : ndarray of shape (k,) or None
            See `source_numbers`; None: all are of one.
        places : ndarray of shape (k,), optional
            Where they stand in the lane, ascending; what stands before 0 is only looked back on.
            Left out, all of them follow each other from 0 on.
        """
        if not detector.history:
            return cls(detector, x)
        places = np.arange(len(x)) if places is None else places
        n_past = int(np.searchsorted(places, 0))
        by_source = detector.history_of == "source"
        if sources is None or not by_source:
            sources = np.zeros(len(x), dtype=np.int64)
        reach = REACH if by_source else None
        laid = laid_out(sources, detector.history, n_past=n_past, places=places, reach=reach)
        return cls(detector, x, laid)

    @property
    def scores(self) -> Scores:
        """The score of each of the n rows."""
        if self.laid is None:
            return self.detector.score(self.x) if len(self.x) else np.zeros(0)
        history, steps = self.detector.history, self.laid.steps
        found = np.empty(len(steps))
        for first in range(history, len(steps), STEPS):
            part = steps[first - history : first + STEPS]
            found[first : first + STEPS] = self.detector.score(self.x[part])
        return found[self.laid.ends]

    def terms(self, rows: Rows) -> Matrix:
        """Return the terms of some of the n rows, (len(rows), k)."""
        if self.laid is None:
            return self.detector.terms(self.x[rows])
        found = [self.detector.terms(x) for x in self._each(self.laid, rows)]
        return np.concatenate(found) if found else np.zeros((0, len(self.detector.labels)))

    def explain(self, rows: Rows) -> Explanation:
        """Return the explanation of some of the n rows; at least one."""
        if self.laid is None:
            return self.detector.explain(self.x[rows])
        return joined([self.detector.explain(x) for x in self._each(self.laid, rows)])

    def _each(self, laid: Laid, rows: Rows) -> Iterator[Matrix]:
        """Yield each of some rows behind its history."""
        return (self.x[window] for window in laid.windows(self.detector.history, rows))


def source_numbers(rows: pa.RecordBatch | pa.Table) -> Rows:
    """Return a number for each row, the same for rows of one source: one address at one sensor.

    Rows without a source address are all of one source of their sensor.
    """
    return _numbers(rows, "src_ip")


def destination_numbers(rows: pa.RecordBatch | pa.Table) -> Rows:
    """Return a number for each row, the same for rows to one destination, as `source_numbers` does."""
    return _numbers(rows, "dst_ip")


def _numbers(rows: pa.RecordBatch | pa.Table, address: str) -> Rows:
    sensors, addresses = (_codes(rows.column(name)) for name in ("sensor", address))
    numbers: Rows = sensors * (addresses.max(initial=0) + 1) + addresses
    return numbers


def source_runs(rows: pa.RecordBatch) -> Rows:
    """Return a number for each row of a lane: that of its source, a new one behind a gap of its own.

    A gap is where the row before of the same source is further away than `REACH` rows.
    """
    sources = source_numbers(rows)
    order = np.argsort(sources, kind="stable")
    begins = (np.diff(sources[order], prepend=-1) != 0) | (np.diff(order, prepend=0) > REACH)
    runs = np.empty_like(sources)
    runs[order] = np.cumsum(begins)
    return runs


def _codes(column: pa.Array | pa.ChunkedArray) -> Rows:
    """Return a number from 1 on for each value of a column, 0 for none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    codes = column.dictionary_encode().indices.cast(pa.int64())
    return np.asarray(pc.fill_null(codes, -1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def _looked_back_on(detector: Detector, rows: pa.RecordBatch, before: Past) -> Past:
    """Return what a detector may look back on from some rows, of what their lane has kept."""
    if detector.history_of == "lane":
        chosen = np.flatnonzero(before.ages <= detector.history)
    else:
        who = [batch.select(["sensor", "src_ip"]) for batch in (before.rows, rows)]
        past, here = np.split(source_numbers(pa.concat_batches(who)), [before.rows.num_rows])
        is_here = np.zeros(max(past.max(initial=0), here.max(initial=0)) + 1, dtype=np.bool_)
        is_here[here] = True
        chosen = np.flatnonzero(is_here[past])
    return Past(before.rows.take(pa.array(chosen)), before.ages[chosen])


def _younger(sources: Rows) -> Rows:
    """Return how many rows of its own source follow each row."""
    order = np.argsort(sources, kind="stable")
    ordered = sources[order]
    found = np.empty_like(sources)
    found[order] = np.searchsorted(ordered, ordered, side="right") - 1 - np.arange(sources.size)
    return found


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
