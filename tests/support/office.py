"""A synthetic office: a model of four of its days, and the day after as it is and as it might become."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from connectors.records import CONN
from connectors.source_memory import MemorySource
from connectors.sources import Generated, open_source
from pipeline.bundle import Bundle
from training.datasets import load_dataset
from training.train import Plan, train_model

SCALE = 0.2
FRIDAY = date(2026, 3, 6)
"""The day after those of training, Monday to Thursday."""


def office_model(folder: Path) -> Bundle:
    """Return a model of the first four days, with its reference."""
    dataset = load_dataset("synthetic", generated=Generated(days=4, scale=SCALE))
    plan = Plan(detector="robust_z", max_rows=20_000)
    return train_model(dataset, plan, models_dir=folder, name="office", baselines=False).bundle


def friday(*, factor: int = 1) -> pa.RecordBatch:
    """Return the flows of the day after, without attacks; `factor` multiplies the bytes of every source."""
    day = Generated(days=1, start=FRIDAY, attacks=False, scale=SCALE)
    rows = pa.concat_batches([chunk.rows for chunk in open_source("synthetic", generated=day).chunks()])
    at = rows.schema.get_field_index("src_bytes")
    return rows.set_column(at, CONN.schema.field(at), pc.multiply(rows.column(at), factor))


def friday_source(*, factor: int = 1) -> MemorySource:
    """Return the day after as a source."""
    return MemorySource(friday(factor=factor))
