"""The features of one lane: the same code for a whole dataset and for a live partition."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.records import FAILED_STATES
from pipeline.features.arrays import addresses, equals, ports, times_us, whole_numbers
from pipeline.features.base import CARRIED, Counts, FeatureSet
from pipeline.features.rhythm import RHYTHM_COLUMNS, Rhythm
from pipeline.features.window_tables import Integers
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
        rhythm = feature_set.rhythm
        self._rhythm = Rhythm(rhythm, seq=seq) if rhythm else None

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
        """Position from which rows are needed to rebuild windows and rhythm; `seq` if there are neither."""
        windows = self._windows.oldest() if self._windows else self._seq
        return min(windows, self._rhythm.oldest()) if self._rhythm else windows

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
        seq, clocks = self._seq, np.maximum.accumulate(np.maximum(times, self._clock_us))
        self._tick(times, clocks)
        columns = self.feature_set.compute(rows, self._counts(rows, times, clocks, seq))
        carried = [rows.column(name) for name in CARRIED]
        computed = [pa.array(columns[f.name], f.type) for f in self.feature_set.features]
        return pa.RecordBatch.from_arrays(carried + computed, schema=self.feature_set.schema)

    def _tick(self, times: Integers, clocks: Integers) -> None:
        """Move clock and position over rows with these event times."""
        self._late_us = 0
        if not times.size:
            return
        lateness = clocks - times
        self._n_late += int(np.count_nonzero(lateness))
        self._late_us = int(lateness.max())
        self._clock_us = int(clocks[-1])
        self._seq += times.size

    def _counts(self, rows: pa.RecordBatch, times: Integers, clocks: Integers, seq: int) -> Counts:
        """Return what windows and rhythm give to the rows, the first of them at position `seq`."""
        if not self._windows and not self._rhythm:
            return {}
        sensors = rows.column("sensor").dictionary_encode()
        contacts = {
            "sensor": sensors.indices.to_numpy(),
            "src": addresses(rows, "src_ip"),
            "dst": addresses(rows, "dst_ip"),
            "dst_port": ports(rows, "dst_port"),
        }
        names = sensors.dictionary.to_pylist()
        counts: dict[str, Integers] = {}
        if self._windows:
            counted = self._windows.update(
                sensors=names,
                src_bytes=whole_numbers(rows, "src_bytes"),
                failed=equals(rows, "state", *FAILED_STATES),
                event_time_us=times,
                **contacts,
            )
            counts |= zip(self._windows.names, counted.T, strict=True)
        if self._rhythm:
            counted = np.zeros((times.size, len(RHYTHM_COLUMNS)), np.int64)
            at = np.flatnonzero(self.feature_set.followed(rows)) if self.feature_set.followed else slice(None)
            followed = {name: column[at] for name, column in contacts.items()}
            seqs = seq + np.arange(times.size)
            counted[at] = self._rhythm.update(sensors=names, clock_us=clocks[at], seq=seqs[at], **followed)
            self._rhythm.pass_by(clocks, seq)
            counts |= zip(RHYTHM_COLUMNS, counted.T, strict=True)
        return counts


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
