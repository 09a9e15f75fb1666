"""The features of one lane: the same code for a whole dataset and for a live partition."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.records import FAILED_STATES
from pipeline.features.arrays import addresses, equals, ports, times_us, whole_numbers
from pipeline.features.base import CARRIED, FeatureSet
from pipeline.features.windows import Windows


class LaneFeatures:
    """Turns the checked rows of one lane, in log order, into rows of a feature set.

    Any split of the rows into batches gives the same bits. A lane that is rebuilt begins with clock
    and seq as they were before some row at or before `oldest_seq`, and is fed again from there.

    Parameters
    ----------
    feature_set : FeatureSet
        What to compute.
    clock_us : int
        Lane clock before the first row, microseconds since 1970.
    seq : int
        Position of the first row in the lane's log order.
    """

    def __init__(self, feature_set: FeatureSet, *, clock_us: int = 0, seq: int = 0) -> None:
        self.feature_set = feature_set
        self._clock_us = clock_us
        self._seq = seq
        self._n_late = 0
        self._late_us = 0
        spec = feature_set.windows
        self._windows = Windows(spec, clock_us=clock_us, seq=seq) if spec else None

    @property
    def clock_us(self) -> int:
        """The greatest event time so far, microseconds since 1970; it never goes back."""
        return self._clock_us

    @property
    def seq(self) -> int:
        """Position of the next row: the rows of the lane so far."""
        return self._seq

    @property
    def oldest_seq(self) -> int:
        """Position of the oldest row that an open window still holds; `seq` if there is none."""
        return self._windows.oldest() if self._windows else self._seq

    @property
    def n_late(self) -> int:
        """Rows so far whose event time lay behind the lane clock."""
        return self._n_late

    @property
    def late_us(self) -> int:
        """The largest lateness in the last batch, microseconds."""
        return self._late_us

    @property
    def n_capped(self) -> int:
        """Rows so far for which the capacity cut the widest window."""
        return self._windows.n_capped if self._windows else 0

    def process(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the features of the next rows of the lane.

        Parameters
        ----------
        rows : RecordBatch
            As `FeatureSet.check` gives them.

        Returns
        -------
        RecordBatch
            Row for row, with `feature_set.schema`; what is carried on is not copied.
        """
        times = times_us(rows)
        counts = None if self._windows is None else _counts(self._windows, rows, times)
        self._tick(times)
        columns = self.feature_set.compute(rows, counts)
        carried = [rows.column(name) for name in CARRIED]
        computed = [pa.array(columns[f.name], f.type) for f in self.feature_set.features]
        return pa.RecordBatch.from_arrays(carried + computed, schema=self.feature_set.schema)

    def _tick(self, times: npt.NDArray[np.int64]) -> None:
        """Move clock and position over rows with these event times."""
        self._late_us = 0
        if not times.size:
            return
        clock = np.maximum.accumulate(np.maximum(times, self._clock_us))
        lateness = clock - times
        self._n_late += int(np.count_nonzero(lateness))
        self._late_us = int(lateness.max())
        self._clock_us = int(clock[-1])
        self._seq += times.size


def _counts(windows: Windows, rows: pa.RecordBatch, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    sensors = rows.column("sensor").dictionary_encode()
    return windows.update(
        sensors=sensors.dictionary.to_pylist(),
        sensor=sensors.indices.to_numpy(),
        src=addresses(rows, "src_ip"),
        dst=addresses(rows, "dst_ip"),
        dst_port=ports(rows, "dst_port"),
        src_bytes=whole_numbers(rows, "src_bytes"),
        failed=equals(rows, "state", *FAILED_STATES),
        event_time_us=times,
    )


@dataclass(frozen=True, kw_only=True)
class Offline:
    """A dataset as features, with its labels beside them."""

    features: pa.Table  # feature_set.schema
    labels: pa.ChunkedArray  # one text or null a row of `features`; never a feature
    n_bad: int  # rows that the check refused


def offline_features(feature_set: FeatureSet, batches: Iterable[pa.RecordBatch]) -> Offline:
    """Run a whole dataset, as one lane, through the code that the features worker runs.

    Parameters
    ----------
    feature_set : FeatureSet
        What to compute.
    batches : iterable of RecordBatch
        Rows of the set's record type in log order, as the chunks of a source hold them.
    """
    lane = LaneFeatures(feature_set)
    features: list[pa.RecordBatch] = []
    labels: list[pa.Array] = []
    n_bad = 0
    for batch in batches:
        checked = feature_set.check(batch)
        n_bad += len(checked.bad)
        labels.append(checked.rows.column("label"))
        features.append(lane.process(checked.rows))
    return Offline(
        features=pa.Table.from_batches(features, schema=feature_set.schema),
        labels=pa.chunked_array(labels, pa.string()),
        n_bad=n_bad,
    )
