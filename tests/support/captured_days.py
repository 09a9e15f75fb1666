"""Synthetic days as `weir capture` keeps them."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from connectors.source_synthetic import START, SyntheticSource
from pipeline.capture_files import CaptureFile, OpenFile
from pipeline.features.arrays import times_us
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features

CONN = feature_set("conn")


def captured_file(folder: Path, features: pa.Table, *, lane: int = 0, first: int = 0, **changes: str) -> None:
    """Write features as `weir capture` does."""
    (batch,) = features.combine_chunks().to_batches()
    times = times_us(batch)
    holds = CaptureFile(
        topic=changes.get("topic", "weir.features.conn.v1"),
        feature_set=changes.get("feature_set", CONN.id),
        lane=lane,
        first=first,
        next=first + 1,
        flows_offset=first,
        rows=batch.num_rows,
        first_us=int(times.min()),
        last_us=int(times.max()),
    )
    folder.mkdir(exist_ok=True)
    opened = OpenFile(folder, CONN, holds, 0.0)
    opened.add(batch)
    opened.close()


def day(
    n: int, *, attacks: tuple[str, ...] = (), seed: int = 5, scale: float = 0.15
) -> tuple[pa.Table, Sequence[str]]:
    """Return the features and the labels of a synthetic day."""
    source = SyntheticSource(
        seed=seed, start=START + timedelta(days=n), attacks=attacks or False, scale=scale
    )
    found = offline_features(CONN, (chunk.rows for chunk in source.chunks()))
    return found.features, found.labels.to_pylist()
