"""The reference of a model: how the features of its normal training traffic were distributed.

Windows of the live stream are compared with it (`pipeline.watch`). Normal traffic has a daily rhythm,
so where training covers two days and more, an hour is compared with the same hours of the day. How
far windows of the training traffic itself lie from the rest of it is kept as well, as the level that
a live window has to exceed.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from detectors.base import Scores
from detectors.drift import (
    N_EDGES,
    Counts,
    Edges,
    distance_to_uniform,
    padded,
    quantile_edges,
    stability_index,
    uniform_counts,
)
from pipeline.errors import BundleError
from pipeline.features.base import Feature, FeatureSet
from pipeline.features.binning_kernel import count_above

WINDOW_US = 3_600_000_000
"""A window is an hour of lane clock, from full hour to full hour."""

LEAST_ROWS = 500
"""A window with fewer rows goes on for another hour."""

PHASES = 24
"""Hours of a day, in UTC: the rhythm that normal traffic is known to have."""

N_BINS = N_EDGES + 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reference:
    """How the features of normal training traffic were distributed."""

    features: tuple[str, ...]  # names, in the order of the feature set
    edges: Edges  # (k, 10), of the bins of each feature
    counts: Counts  # (24, k, 11) by hour of the day, or (1, k, 11) where that is not known
    levels: Scores  # (k,), greatest stability index of a window of training against the rest of it
    p_level: float  # greatest distance to uniform of the p-values of a window of calibration

    @classmethod
    def fit(
        cls,
        feature_set: FeatureSet,
        rows: pa.RecordBatch,
        times_us: npt.NDArray[np.int64] | None,
        p_values: tuple[Scores, npt.NDArray[np.int64]],
    ) -> Self:
        """Learn from normal rows.

        Parameters
        ----------
        feature_set : FeatureSet
            Of the rows.
        rows : RecordBatch
            Normal traffic of training, at least one row, in the order of its lane.
        times_us : ndarray of shape (n,) or None
            Its event times, microseconds since 1970; None where there are none, so that there is no
            hour of the day.
        p_values : tuple of ndarray
            p-values of the calibration rows and their event times; where there are none, any that
            rise from row to row.
        """
        edges = np.stack([_edges(feature, rows) for feature in feature_set.features])
        clock = _clock(_own_times(rows) if times_us is None else times_us)
        hours = clock // WINDOW_US
        daily = times_us is not None and int(np.ptp(clock)) >= 2 * PHASES * WINDOW_US
        phases = hours % PHASES if daily else np.zeros_like(hours)
        values = column_values(feature_columns(feature_set, rows))
        n_phases = PHASES if daily else 1
        counts = np.stack(
            [bin_counts(values, np.flatnonzero(phases == phase), edges) for phase in range(n_phases)]
        )
        levels = np.zeros(len(edges))
        for window in _windows(hours):
            mine = bin_counts(values, window, edges)
            rest = counts[np.unique(phases[window])].sum(axis=0) - mine
            levels = np.maximum(levels, stability_index(mine, rest))
        return cls(
            features=tuple(feature.name for feature in feature_set.features),
            edges=edges,
            counts=counts,
            levels=levels,
            p_level=_p_level(*p_values),
        )

    def of_phases(self, phases: Sequence[int]) -> Counts:
        """Return the counts of some hours of the day, (k, 11); of all where these hold no row."""
        chosen: Counts = self.counts[sorted({phase % len(self.counts) for phase in phases})].sum(axis=0)
        if not chosen.any():
            chosen = self.counts.sum(axis=0)
        return chosen

    def to_parquet(self) -> bytes:
        """Return all of it as a Parquet file: a row a feature and hour of the day."""
        n_phases, k, _ = self.counts.shape
        table = pa.table(
            {
                "feature": pa.array(np.tile(np.array(self.features, dtype=object), n_phases), pa.string()),
                "hour": pa.array(np.repeat(np.arange(n_phases), k), pa.int16()),
                "edges": pa.array(np.tile(self.edges, (n_phases, 1)).tolist(), pa.list_(pa.float32())),
                "counts": pa.array(self.counts.reshape(-1, N_BINS).tolist(), pa.list_(pa.int64())),
                "level": pa.array(np.tile(self.levels, n_phases), pa.float64()),
            }
        )
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"p_level": repr(self.p_level)}), sink)
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes, feature_set: FeatureSet) -> Self:
        """Read what `to_parquet` wrote.

        Raises
        ------
        BundleError
            If it is not of this feature set.
        """
        table = pq.read_table(pa.BufferReader(content))
        names = tuple(feature.name for feature in feature_set.features)
        k = len(names)
        if tuple(table.column("feature").to_pylist()[:k]) != names or table.num_rows % k:
            raise BundleError(f"reference: not of the features of {feature_set.id}; train again")
        head = table.slice(0, k)
        return cls(
            features=names,
            edges=np.array(head.column("edges").to_pylist(), dtype=np.float32).reshape(k, N_EDGES),
            counts=np.array(table.column("counts").to_pylist(), dtype=np.int64).reshape(-1, k, N_BINS),
            levels=head.column("level").to_numpy(),
            p_level=float(table.schema.metadata[b"p_level"]),
        )


def feature_columns(feature_set: FeatureSet, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the features of some rows, without the identity; nothing is copied."""
    first = rows.schema.get_field_index(feature_set.features[0].name)
    return rows.select(list(range(first, first + len(feature_set.features))))


def column_values(columns: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Return `feature_columns` as an array, (k, n); a category as its code."""
    # Categories are whole numbers up to 65,535: Arrow brings all to one type, exactly.
    return np.asarray(columns.to_tensor(row_major=False).to_numpy().T, dtype=np.float32)


def bin_counts(values: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], edges: Edges) -> Counts:
    """Return how many of the chosen values of each feature lie in each of its bins, (k, 11)."""
    above = np.zeros(edges.shape, dtype=np.int64)
    count_above(values, rows, edges, above)
    all_of_them = np.full((len(edges), 1), rows.size)
    return np.asarray(-np.diff(above, prepend=all_of_them, append=0), dtype=np.int64)


def _edges(feature: Feature, rows: pa.RecordBatch) -> Edges:
    """Return the edges of a feature's bins: of few categories, each has its own."""
    if feature.kind == "categorical" and len(feature.vocabulary) < N_EDGES:
        return padded(np.arange(len(feature.vocabulary) + 1, dtype=np.float32))
    values = rows.column(feature.name).to_numpy(zero_copy_only=False).astype(np.float32)
    return quantile_edges(values)


def _own_times(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    return np.asarray(rows.column("event_time").cast(pa.int64()).to_numpy(), dtype=np.int64)


def _clock(times_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the lane clock at each row; where times fall by more than a window, another lane begins."""
    lanes = np.split(times_us, np.flatnonzero(np.diff(times_us) < -WINDOW_US) + 1)
    return np.concatenate([np.maximum.accumulate(lane) for lane in lanes])


def _windows(hours: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the rows of each window, as the live stream cuts them; the last one is never closed."""
    begin = 0
    for end in np.flatnonzero(np.diff(hours)) + 1:
        if end - begin >= LEAST_ROWS:
            yield np.arange(begin, end)
            begin = int(end)


def _p_level(p_values: Scores, times_us: npt.NDArray[np.int64]) -> float:
    hours = _clock(times_us) // WINDOW_US
    distances = [distance_to_uniform(uniform_counts(p_values[rows], 0.0)) for rows in _windows(hours)]
    return max(distances, default=0.0)
