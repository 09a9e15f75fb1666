"""The watch over a lane: whether alarms keep to the budget, and whether normal traffic is still the same.

All of it runs on the lane clock and follows from the log alone: windows are cut between rows, and the
state after each message is written into the headers of its detections message, so that a restarted
worker goes on with the very same counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.base import Scores
from detectors.drift import (
    UNIFORM_BINS,
    Counts,
    distance_to_uniform,
    stability_index,
    uniform_counts,
)
from pipeline.drift import Closed, Drift, Moved
from pipeline.group_keys import spans
from pipeline.moved import drift_of, moved_features
from pipeline.panel import Panel
from pipeline.reference import (
    LEAST_ROWS,
    N_BINS,
    PHASES,
    WINDOW_US,
    bin_counts,
    column_values,
    feature_columns,
)
from pipeline.watch_metrics import Watched

BLOCK = 64
"""Of a busy lane, flows are compared in blocks that follow each other in the log: cheaper than one by one."""

WANTED, ENOUGH, MOST_STRIDE = 16_384, 4096, 16
"""Flows to compare in a window, as far as the one before foretells how many there will be; how many must
have been for a verdict where some are left out; and one block in so many at least."""

PANE_US = 300_000_000
"""The sliding hour of the budget moves by five minutes."""

PANES = 12

INDEX_LIMIT = 0.25
"""A stability index above this is called much; see `detectors.drift`."""

DISTANCE_LIMIT = 0.1
"""A tenth of the p-values lie elsewhere: a model's alarms are no longer what alpha promises."""

FLAGGED_LIMIT = 0.5
"""Most flows are flagged: then those that are not say nothing of the traffic."""

MARGIN = 1.5
"""How far beyond the farthest window of its own training traffic a lane has to go."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Watch:
    """What a lane has seen in the open window and in the last hour."""

    hour: int = -1  # of the lane clock; -1: nothing seen
    begin: int = -1  # hour in which the window began: an earlier one where there were few rows
    phases: tuple[int, ...] = ()  # hours of the day in the window
    rows: int = 0
    flagged: int = 0
    stride: int = 0  # one block in so many is compared; 0: none, in a lane's first window
    features: Counts  # (k, 11) of compared rows that were not flagged
    p_values: Counts  # (m, 20) of compared rows, by model
    panes: tuple[tuple[int, int, int], ...] = ()  # number, rows and flagged rows of each five minutes
    since: int = -1  # hour in which the drift of the windows before this one began; -1: none

    @property
    def last_hour(self) -> tuple[int, int]:
        """Rows and flagged rows of the last hour of lane clock, to the five minutes."""
        return sum(rows for _, rows, _ in self.panes), sum(flagged for *_, flagged in self.panes)


class _Written(msgspec.Struct, frozen=True, array_like=True):
    """A watch as it stands in a header."""

    judges: str
    hour: int
    begin: int
    phases: tuple[int, ...]
    rows: int
    flagged: int
    stride: int
    features: list[list[int]]
    p_values: list[list[int]]
    panes: tuple[tuple[int, int, int], ...]
    since: int


class Watcher:
    """Follows lanes with the reference of a panel's first model that has one.

    Parameters
    ----------
    panel : Panel
        Its models may lack references (bundles of an earlier version): then features are not watched.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._feature_set = panel.bundles[0].feature_set
        found = (bundle.reference for bundle in panel.bundles if bundle.reference is not None)
        self.reference = next(found, None)
        self.limits = (
            np.maximum(INDEX_LIMIT, MARGIN * self.reference.levels) if self.reference else np.zeros(0)
        )
        self.p_limits = tuple(
            max(DISTANCE_LIMIT, MARGIN * (bundle.reference.p_level if bundle.reference else 0.0))
            for bundle in panel.members
        )

    @cached_property
    def _judges(self) -> str:
        """Who watches: counts of other models or another alpha cannot be gone on with."""
        return " ".join([*(bundle.sha256[:12] for bundle in self._panel.members), repr(self._panel.alpha)])

    @property
    def watched(self) -> Watched:
        """What the metrics are about."""
        budget = self._panel.budget
        return Watched(
            alpha=self._panel.alpha,
            alarms_per_hour=budget.alarms_per_hour if budget else None,
            features=self.reference.features if self.reference else (),
            models=tuple((bundle.name, bundle.version) for bundle in self._panel.members),
        )

    @cached_property
    def fresh(self) -> Watch:
        """What a lane has seen at its beginning."""
        k = len(self.reference.features) if self.reference else 0
        m = len(self._panel.members)
        return Watch(
            features=np.zeros((k, N_BINS), dtype=np.int64),
            p_values=np.zeros((m, UNIFORM_BINS), dtype=np.int64),
        )

    def written(self, watch: Watch) -> str:
        """Return `watch` as text for a header, the same for the same counts."""
        told = _Written(
            self._judges,
            watch.hour,
            watch.begin,
            watch.phases,
            watch.rows,
            watch.flagged,
            watch.stride,
            watch.features.tolist(),
            watch.p_values.tolist(),
            watch.panes,
            watch.since,
        )
        return msgspec.json.encode(told).decode()

    def read(self, text: str) -> Watch:
        """Return what `written` wrote; of other models, of an earlier version or damaged: a fresh one."""
        try:
            told = msgspec.json.decode(text, type=_Written)
            features = np.array(told.features, dtype=np.int64).reshape(self.fresh.features.shape)
            p_values = np.array(told.p_values, dtype=np.int64).reshape(self.fresh.p_values.shape)
        except (msgspec.DecodeError, ValueError):
            return self.fresh
        if told.judges != self._judges:
            return self.fresh
        return Watch(
            hour=told.hour,
            begin=told.begin,
            phases=told.phases,
            rows=told.rows,
            flagged=told.flagged,
            stride=told.stride,
            features=features,
            p_values=p_values,
            panes=told.panes,
            since=told.since,
        )

    def follow(
        self,
        watch: Watch,
        rows: pa.RecordBatch,
        clock: npt.NDArray[np.int64],
        flagged: Flags,
        p_values: Sequence[Scores],
    ) -> tuple[Watch, tuple[Closed, ...]]:
        """Return what the lane has seen after some more rows, and the windows that they closed.

        Parameters
        ----------
        watch : Watch
            Before them.
        rows : RecordBatch
            Of the panel's feature set, n rows.
        clock : ndarray of shape (n,)
            Lane clock at each row, microseconds since 1970.
        flagged : ndarray of shape (n,)
            Which rows the panel flagged.
        p_values : sequence of ndarray of shape (n,)
            Of each member.
        """
        if not rows.num_rows:
            return watch, ()
        chosen = feature_columns(self._feature_set, rows)
        closed = []
        for hour, begin, end in _spans(clock, WINDOW_US):
            if watch.hour < hour and watch.rows >= LEAST_ROWS:
                if _is_enough(watch):
                    closed.append(self._closed(watch))
                    watch = replace(watch, since=closed[-1].since)
                watch = self._begun(watch)
            part = slice(begin, end)
            p_parts = [each[part] for each in p_values]
            watch = self._counted(watch, hour, chosen.slice(begin, end - begin), flagged[part], p_parts)
        return replace(watch, panes=_panes(watch.panes, clock, flagged)), tuple(closed)

    def _begun(self, before: Watch) -> Watch:
        """Return a window with nothing in it, behind another one of the same lane."""
        stride = min(max(before.rows // WANTED, 1), MOST_STRIDE)
        return replace(self.fresh, panes=before.panes, since=before.since, stride=stride)

    def _counted(
        self, watch: Watch, hour: int, rows: pa.RecordBatch, flagged: Flags, p_values: Sequence[Scores]
    ) -> Watch:
        """Return `watch` with more rows, all of one hour."""
        phase = hour % PHASES
        watch = replace(
            watch,
            hour=hour,
            begin=hour if watch.begin < 0 else watch.begin,
            phases=watch.phases if phase in watch.phases else (*watch.phases, phase),
            rows=watch.rows + flagged.size,
            flagged=watch.flagged + int(np.count_nonzero(flagged)),
        )
        blocks = _blocks(watch.rows - flagged.size, flagged.size, watch.stride)
        return self._compared(watch, blocks, rows, flagged, p_values) if blocks else watch

    def _compared(
        self,
        watch: Watch,
        blocks: Sequence[slice],
        rows: pa.RecordBatch,
        flagged: Flags,
        p_values: Sequence[Scores],
    ) -> Watch:
        """Return `watch` with the features and p-values of some of its rows."""
        sample = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
        counts = [uniform_counts(each[sample], self._panel.alpha) for each in p_values]
        watch = replace(watch, p_values=watch.p_values + np.stack(counts))
        if self.reference is None:
            return watch
        values = np.hstack([column_values(rows[block]) for block in blocks])
        unflagged = np.flatnonzero(~flagged[sample])
        return replace(watch, features=watch.features + bin_counts(values, unflagged, self.reference.edges))

    def _closed(self, watch: Watch) -> Closed:
        """Return what the window that is over says."""
        expected = watch.features
        if self.reference:
            expected = self.reference.of_phases(watch.phases)
        indices = stability_index(watch.features, expected)
        distances = tuple(distance_to_uniform(counts) for counts in watch.p_values)
        share = watch.flagged / watch.rows
        beyond = {
            "psi": bool((indices > self.limits).any()),
            "uniformity": self._beyond(distances),
            "flagged": share > max(FLAGGED_LIMIT, 10 * self._panel.alpha),
        }
        monitors = tuple(name for name, is_beyond in beyond.items() if is_beyond)
        since = (watch.since if watch.since >= 0 else watch.begin) if monitors else -1
        closed = Closed(
            begin=watch.begin,
            end=watch.hour + 1,
            since=since,
            indices=indices,
            limits=self.limits,
            distances=distances,
            p_limits=self.p_limits,
            flagged_share=share,
            drift=None,
        )
        return replace(closed, drift=self._drift(watch, closed, expected, monitors)) if monitors else closed

    def _beyond(self, distances: Sequence[float]) -> bool:
        """Return whether the p-values of a model that decides are no longer uniform."""
        deciding = zip(distances, self.p_limits, self._panel.bundles, strict=False)
        return any(distance > limit for distance, limit, _ in deciding)

    def _drift(self, watch: Watch, closed: Closed, expected: Counts, monitors: tuple[str, ...]) -> Drift:
        moved: list[Moved] = []
        if self.reference:
            moved = moved_features(self._feature_set, self.reference.edges, watch.features, expected, closed)
        models = [f"{bundle.name}/{bundle.version}" for bundle in self._panel.members]
        return drift_of(closed, monitors=monitors, rows=watch.rows, features=moved, models=models)


def _is_enough(watch: Watch) -> bool:
    """Return whether enough rows of a window were compared to say something of it."""
    return watch.stride == 1 or (watch.stride > 1 and watch.rows >= ENOUGH * watch.stride)


def _blocks(first: int, n: int, stride: int) -> list[slice]:
    """Return which of `n` rows are compared, the first of which is number `first` in its window.

    Examples
    --------
    >>> _blocks(100, 500, 4)
    [slice(156, 220, None), slice(412, 476, None)]
    >>> _blocks(100, 500, 1), _blocks(0, 500, 0)
    ([slice(0, 500, None)], [])
    """
    if stride <= 1:
        return [slice(0, n)] * stride
    step = BLOCK * stride
    begins = range(first // step * step - first, n, step)
    return [slice(max(begin, 0), min(begin + BLOCK, n)) for begin in begins if begin + BLOCK > 0]


def _spans(clock: npt.NDArray[np.int64], width_us: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, begin, end) of the rows in each span of so many microseconds; mostly there is one."""
    if clock[0] // width_us == clock[-1] // width_us:
        return iter([(int(clock[0] // width_us), 0, clock.size)])
    return spans(clock // width_us)


def _panes(
    before: tuple[tuple[int, int, int], ...], clock: npt.NDArray[np.int64], flagged: Flags
) -> tuple[tuple[int, int, int], ...]:
    """Return the rows and flagged rows of the last twelve panes, these rows included."""
    found = {number: (n, n_flagged) for number, n, n_flagged in before}
    for number, begin, end in _spans(clock, PANE_US):
        n, n_flagged = found.get(number, (0, 0))
        found[number] = (n + end - begin, n_flagged + int(np.count_nonzero(flagged[begin:end])))
    oldest = max(found) - PANES
    return tuple((number, *counts) for number, counts in sorted(found.items()) if number > oldest)
