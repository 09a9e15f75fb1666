"""The judge: from features to scores, p-values, the decision, and the reasons of flagged flows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.base import Matrix, Scores
from pipeline.bundle import Bundle
from pipeline.drift import Closed
from pipeline.features.base import CARRIED
from pipeline.history import Depth, Past, Window
from pipeline.panel import Panel
from pipeline.reasons import reasons_of
from pipeline.suppressions import NOTHING_SUPPRESSED, Suppressions, is_suppressed
from pipeline.told import Told
from pipeline.verdict import FLAGGED
from pipeline.watch import Watch, Watcher

HISTOGRAM_BINS = 10
"""Bins of -log10(p): [0, 1), [1, 2) ... [9, inf). Calibrated normal traffic falls tenfold a bin."""


POINTING = 0.25
"""Part of a leading term about the flow itself from which on a term about someone says whom it concerns."""


EXPLAINED = 256
"""Rows explained at once: an explanation takes a number for each row, term and column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one model says of n rows."""

    window: Window  # the rows, normalised, with those that the detector looks back on
    scores: Scores  # (n,)
    p_values: Scores  # (n,), in (0, 1]
    watched: npt.NDArray[np.int64]  # (n,), index of the watched feature that moved and decided, or -1


def judge_rows(bundle: Bundle, features: pa.RecordBatch, before: Past | None = None) -> Judgement:
    """Score features with one bundle and calibrate the scores.

    `before` is what the lane has kept of the rows before these, for detectors that look back.

    A column that was constant in training is not in the model, but watched: where it moves, the
    p-value is at most the one that this alone earns among the calibration rows.
    """
    window = Window.of(bundle.detector, bundle.normaliser, features, before)
    scores = window.scores
    p_values = bundle.calibration.p_value(scores)
    watched = bundle.normaliser.moved(features).first
    decides = (watched >= 0) & (bundle.p_moved < p_values)
    if decides.any():
        p_values = np.where(decides, bundle.p_moved, p_values)
    return Judgement(window=window, scores=scores, p_values=p_values, watched=np.where(decides, watched, -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a panel says of one features message."""

    n_scored: int
    flagged: pa.RecordBatch  # verdict.FLAGGED, in log order
    histogram: tuple[int, ...]
    by_model: tuple[int, ...]  # rows that each member alone would flag, shadows last
    p_values: Scores  # (n_scored,), the panel's
    told: Told | None = None  # of the lane, these rows included
    watch: Watch | None = None  # of the lane, these rows included; None where none was given
    closed: tuple[Closed, ...] = ()  # windows of the watch that these rows ended


class Judge:
    """Judge features messages with a panel.

    Parameters
    ----------
    panel : Panel
        Models, alpha and fusion.
    first : int or None
        Explain the first so many flagged rows of each alert group in a message, those that can be
        published one by one; None explains every flagged row.
    bucket_s : float
        Width of an alert group, seconds of lane clock.
    suppressions : Suppressions
        Which flagged rows make no alert: marked here, not explained.
    """

    def __init__(
        self,
        panel: Panel,
        *,
        first: int | None,
        bucket_s: float,
        suppressions: Suppressions = NOTHING_SUPPRESSED,
    ) -> None:
        self.panel = panel
        self._suppressions = suppressions
        self._first = first
        self._bucket_s = bucket_s
        self.depth = Depth.of(bundle.detector for bundle in panel.members)
        """How far the panel looks back."""
        self.watcher = Watcher(panel)

    def nothing_told(self) -> Told | None:
        """Return what a lane has told at its beginning; None where every flagged row is explained."""
        if self._first is None:
            return None
        return Told(first=max(self._first, 1), width_us=max(1, round(self._bucket_s * 1e6)))

    def judge(
        self,
        features: pa.RecordBatch,
        clock_us: int,
        told: Told | None = None,
        before: Past | None = None,
        watch: Watch | None = None,
    ) -> Verdict:
        """Return the verdict on the rows of one message.

        Parameters
        ----------
        features : RecordBatch
            Of the panel's feature set.
        clock_us : int
            Lane clock before row 0.
        told : Told, optional
            What the lane has told before, nothing where left out: rows that grouping does not publish
            behind it are not explained.
        before : Past, optional
            What the lane has kept of the rows before these, by `depth`; nothing at its beginning.
        watch : Watch, optional
            What the lane has seen before; left out, nobody watches.
        """
        told = told or self.nothing_told()
        judgements = [judge_rows(bundle, features, before) for bundle in self.panel.members]
        fused = self.panel.fused(self._deciding(judgements))
        is_flagged = fused <= self.panel.alpha
        rows = np.flatnonzero(is_flagged)
        flagged, closed = _NOTHING, tuple[Closed, ...]()
        if rows.size:
            flagged, told = self._flagged(features, judgements, fused, rows, clock_us, told)
        if watch is not None:
            p_values = [judgement.p_values for judgement in judgements]
            clock = _clock(features, clock_us)
            watch, closed = self.watcher.follow(watch, features, clock, is_flagged, p_values)
        return Verdict(
            n_scored=features.num_rows,
            flagged=flagged,
            histogram=_histogram(fused),
            by_model=tuple(int(np.count_nonzero(j.p_values <= self.panel.alpha)) for j in judgements),
            p_values=fused,
            told=told,
            watch=watch,
            closed=closed,
        )

    def _deciding(self, judgements: Sequence[Judgement]) -> Matrix:
        """Return the p-values of the members that decide, (n_members, n)."""
        return np.stack([judgement.p_values for judgement in judgements[: len(self.panel.bundles)]])

    def _flagged(
        self,
        features: pa.RecordBatch,
        judgements: Sequence[Judgement],
        fused: Scores,
        rows: npt.NDArray[np.int64],
        clock_us: int,
        told: Told | None,
    ) -> tuple[pa.RecordBatch, Told | None]:
        decided = self.panel.decided(self._deciding(judgements)[:, rows])
        leading, about = self._leading(judgements, decided, rows)
        clock = _clock(features, clock_us)[rows]
        taken = pa.array(rows)
        columns = {
            **{name: features.column(name).take(taken) for name in CARRIED},
            "clock_us": pa.array(clock),
            "p_value": pa.array(fused[rows]),
            "scores": _lists([judgement.scores[rows] for judgement in judgements]),
            "p_values": _lists([judgement.p_values[rows] for judgement in judgements]),
            "decided": pa.array(decided.astype(np.uint8)),
            "leading": leading,
            "about": about,
            "suppressed": pa.nulls(rows.size, pa.string()),
            "reasons": pa.nulls(rows.size, pa.string()),
        }
        batch = pa.RecordBatch.from_arrays([columns[name] for name in FLAGGED.names], schema=FLAGGED)
        batch = _with(batch, "suppressed", self._suppressions.of_rows(batch))
        wanted, told = told.behind(batch, clock_us) if told else (np.flatnonzero(~is_suppressed(batch)), None)
        reasons = self._reasons(wanted, features, judgements, decided, rows)
        return _with(batch, "reasons", reasons), told

    def _leading(
        self, judgements: Sequence[Judgement], decided: npt.NDArray[np.intp], rows: npt.NDArray[np.int64]
    ) -> tuple[pa.Array, pa.Array]:
        """Return the leading term of each flagged row and whom the anomaly concerns."""
        code, whom = np.zeros((2, rows.size), dtype=np.int64)
        before = 0
        for index, (bundle, judgement) in enumerate(zip(self.panel.bundles, judgements, strict=False)):
            mine = np.flatnonzero(decided == index)
            if mine.size:
                terms = judgement.window.terms(rows[mine])
                watched = judgement.watched[rows[mine]]
                moved = len(bundle.term_labels) + watched
                code[mine] = before + np.where(watched >= 0, moved, terms.argmax(axis=1))
                whom[mine] = before + np.where(watched >= 0, moved, _pointing(terms, bundle.term_about))
            before += len(bundle.term_labels) + len(bundle.feature_set.features)
        texts, abouts = self._leads
        return texts.take(pa.array(code)), abouts.take(pa.array(whom))

    @cached_property
    def _leads(self) -> tuple[pa.Array, pa.Array]:
        """What may lead a flagged row, and whom that is about: terms, then watched features of each model."""
        texts: list[str] = []
        abouts: list[str] = []
        for bundle in self.panel.bundles:
            texts += [f"{label.kind}:{label.id}" for label in bundle.term_labels]
            texts += [f"watched:{feature.name}" for feature in bundle.feature_set.features]
            abouts += [*bundle.term_about, *(feature.about for feature in bundle.feature_set.features)]
        return pa.array(texts, pa.string()), pa.array(abouts, pa.string())

    def _reasons(
        self,
        wanted: npt.NDArray[np.int64],
        features: pa.RecordBatch,
        judgements: Sequence[Judgement],
        decided: npt.NDArray[np.intp],
        rows: npt.NDArray[np.int64],
    ) -> pa.Array:
        """Return the reasons of the wanted ones of the flagged rows, null for the others."""
        texts: list[str | None] = [None] * rows.size
        for index, (bundle, judgement) in enumerate(zip(self.panel.bundles, judgements, strict=False)):
            of_model = wanted[decided[wanted] == index]
            for first in range(0, of_model.size, EXPLAINED):
                mine = of_model[first : first + EXPLAINED]
                chosen = features.take(pa.array(rows[mine]))
                because, watched = judgement.window.explain(rows[mine]), judgement.watched[rows[mine]]
                for at, reasons in zip(mine, reasons_of(bundle, chosen, because, watched), strict=True):
                    texts[at] = reasons.to_json()
        return pa.array(texts, pa.string())


def _with(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    """Return flagged rows with another column of that name."""
    return batch.set_column(FLAGGED.get_field_index(name), FLAGGED.field(name), values)


def _pointing(terms: Matrix, about: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return the term of each row that tells whom the anomaly concerns.

    The leading one, unless it is about the flow itself: in a flood each SYN is odd as a flow, but the
    largest term about anyone points at the server.
    """
    leading: npt.NDArray[np.intp] = terms.argmax(axis=1)
    of_flow = np.array([one == "flow" for one in about])
    if of_flow.all() or not of_flow[leading].any():
        return leading
    others = np.where(of_flow, -np.inf, terms)
    second = others.argmax(axis=1)
    row = np.arange(len(terms))
    points = of_flow[leading] & (others[row, second] >= POINTING * terms[row, leading])
    return np.asarray(np.where(points, second, leading))


_EDGES = [10.0**-decade for decade in range(1, HISTOGRAM_BINS)]
_NOTHING = pa.RecordBatch.from_pylist([], schema=FLAGGED)


def _histogram(p_values: Scores) -> tuple[int, ...]:
    at_most = [p_values.size, *(int(np.count_nonzero(p_values <= edge)) for edge in _EDGES), 0]
    return tuple(more - fewer for more, fewer in pairwise(at_most))


def _clock(features: pa.RecordBatch, clock_us: int) -> npt.NDArray[np.int64]:
    """Return the lane clock at each row, which was `clock_us` before them."""
    times = features.column("event_time").cast(pa.int64()).to_numpy()
    return np.asarray(np.maximum.accumulate(np.maximum(times, clock_us)), dtype=np.int64)


def _lists(columns: Sequence[Scores]) -> pa.Array:
    """Return a list column: one value a model for each row."""
    values = np.stack(columns, axis=1)
    offsets = np.arange(values.shape[0] + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))
