"""Datasets as models see them: features beside labels, computed by the code of the live stream."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from connectors.base import Source
from connectors.sources import Generated, open_source
from detectors.base import Progress, no_progress
from pipeline.features.arrays import times_us
from pipeline.features.base import FeatureSet
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from training.errors import DatasetError
from training.metrics import NORMAL, Labels
from training.splits import Fractions, Mask, Rows, Split, Times, ordered_split, shuffled_split

Order = Literal["time", "rows", "none"]
"""What the order of rows means: event times; the order itself, without times; nothing at all."""

NORMAL_DAYS = 4
"""Days of synthetic normal traffic: Monday to Thursday, so that the day after is a working day too."""

DAYS = "days"
"""Part of `synthetic` that is nothing but the days asked for."""

SYNTHETIC_TIMES = "Event times are synthetic"
"""How the notes of a source begin whose records have no times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a dataset is used to train and judge models."""

    feature_set: str
    parts: tuple[str, ...]  # of the source; a second one is the test part; none: generated
    order: Order
    gap_s: float = 0.0  # left out between the parts of a split: the widest window


RECIPES: dict[str, Recipe] = {
    "nsl-kdd": Recipe(feature_set="nsl-kdd", parts=("train", "test"), order="none"),
    "kdd99": Recipe(feature_set="kdd99", parts=("train", "test"), order="rows"),
    "unsw-nb15": Recipe(feature_set="unsw-nb15", parts=("raw",), order="time"),
    # The published slice is 13 minutes long: a gap of the wide window would take a quarter of it.
    "unsw-conn": Recipe(feature_set="conn", parts=("raw",), order="time", gap_s=10.0),
    "synthetic": Recipe(feature_set="conn", parts=(), order="time", gap_s=60.0),
}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows that can be judged, with what is known of them beside the features, never inside."""

    name: str
    feature_set: FeatureSet
    features: pa.RecordBatch  # schema of the feature set: carried identity, then features
    labels: Labels
    times: Times
    test: Mask | None  # rows of a test part of its own
    order: Order
    gap_s: float
    fingerprint: str
    notes: tuple[str, ...]
    n_rejected: int  # records that could not be read or judged

    @property
    def normal(self) -> Mask:
        """Where rows are normal traffic."""
        return np.asarray(self.labels == NORMAL, dtype=np.bool_)

    def take(self, rows: Rows) -> pa.RecordBatch:
        """Return the features of some rows."""
        return self.features.take(pa.array(rows))

    def split(self, *, seed: int, fractions: Fractions | None = None) -> Split:
        """Return the split of this dataset; only where order has no meaning does `seed` matter."""
        if self.order == "none":
            rng = np.random.default_rng(seed)
            return shuffled_split(self.normal, test=self.test, fractions=fractions, rng=rng)
        timed = self.order == "time"
        return ordered_split(
            self.normal,
            times=self.times if timed else None,
            test=self.test,
            fractions=fractions,
            gap_s=self.gap_s if timed else 0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One source read to its end."""

    source: Source
    features: pa.Table
    labels: pa.ChunkedArray
    n_rejected: int


def load_dataset(
    name: str,
    path: Path | None = None,
    *,
    part: str | None = None,
    limit: int | None = None,
    generated: Generated | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Return a dataset with its features computed, chunk by chunk, as the live stream does.

    Parameters
    ----------
    name : str
        A key of `RECIPES`.
    path : Path, optional
        A folder with the dataset's files, or one file, which then is the whole dataset. Default:
        the folder named by the environment variable WEIR_DATA.
    part : str, optional
        One file of the dataset alone, as `weir replay --part` sends it; of `synthetic`: "days".
    limit : int, optional
        Read only so many records of each part: for a quick look, not for figures.
    generated : Generated, optional
        For `synthetic`: the site and its days of normal traffic; `attacks` are those of the test
        part, which is the day after. Default: four working days. With part "days": the days, with
        their attacks, as `weir replay synthetic` sends them.

    Raises
    ------
    DatasetError
        If the name is unknown or no row can be used.
    SourceError
        If a file is missing or is not of this dataset.
    """
    recipe = _recipe(name)
    if recipe.parts:
        sources = _files(name, recipe, path, part, generated)
    else:
        sources = _days(name, path, part, generated or Generated(days=default_days(part)))
    return assemble(name, [_read(source, recipe, limit, progress) for source in sources])


def default_days(part: str | None) -> int:
    """Return how many synthetic days there are where nothing else is asked for."""
    return 1 if part == DAYS else NORMAL_DAYS


def _files(
    name: str, recipe: Recipe, path: Path | None, part: str | None, generated: Generated | None
) -> list[Source]:
    one_file = path is not None and not path.is_dir()
    parts = [part] if one_file or part is not None else list(recipe.parts)
    return [open_source(name, path, part=part, generated=generated) for part in parts]


def _days(name: str, path: Path | None, part: str | None, generated: Generated) -> list[Source]:
    if part == DAYS:
        return [open_source(name, path, generated=generated)]
    if part is not None:
        raise DatasetError(f"{name} has no part {part!r}; expected {DAYS}, or none")
    after = generated.start + timedelta(days=generated.days)
    return [
        open_source(name, path, generated=replace(generated, attacks=False)),
        open_source(name, path, generated=replace(generated, start=after, days=1)),
    ]


def assemble(name: str, parts: list[Part]) -> Dataset:
    """Join the parts of a dataset; the second one is its test part."""
    recipe = _recipe(name)
    chosen = feature_set(recipe.feature_set)
    features = _joined([part.features for part in parts])
    if not features.num_rows:
        raise DatasetError(f"{name}: no row of {sum(p.n_rejected for p in parts)} records can be used")
    labels, unlabelled = _labels(
        pa.chunked_array([chunk for part in parts for chunk in part.labels.chunks], pa.string())
    )
    notes = tuple(dict.fromkeys(note for part in parts for note in part.source.notes))
    if unlabelled:
        notes += (f"{unlabelled} records have no label and are taken as normal.",)
    return Dataset(
        name=name,
        feature_set=chosen,
        features=features,
        labels=labels,
        times=times_us(features),
        test=None
        if len(parts) == 1
        else np.repeat([False, True], [part.features.num_rows for part in parts]),
        order=_order(recipe, parts[0].source),
        gap_s=recipe.gap_s,
        fingerprint=fingerprint(features, chosen, [part.source.source_id for part in parts]),
        notes=notes,
        n_rejected=sum(part.n_rejected for part in parts),
    )


def fingerprint(features: pa.RecordBatch, chosen: FeatureSet, source_ids: list[str]) -> str:
    """Return the SHA-256 of the feature values, in order, and of the sources' ids."""
    digest = hashlib.sha256("\n".join([chosen.id, *source_ids]).encode())
    for feature in chosen.features:
        digest.update(features.column(feature.name).to_numpy().tobytes())
    return digest.hexdigest()


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise DatasetError(f"no dataset {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def _order(recipe: Recipe, source: Source) -> Order:
    """Return what order means here: made-up times do not make a file's order a time."""
    made_up = any(note.startswith(SYNTHETIC_TIMES) for note in source.notes)
    return "none" if recipe.order == "time" and made_up else recipe.order


def _read(source: Source, recipe: Recipe, limit: int | None, progress: Progress) -> Part:
    rejects = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal rejects
        end = min(limit or np.inf, source.n_records or np.inf)
        for chunk in source.chunks():
            rejects += len(chunk.rejects)
            progress(f"read {source.name}", min(1.0, chunk.next / end))
            yield chunk.rows if limit is None else chunk.rows.slice(0, max(0, limit - chunk.first))
            if limit is not None and chunk.next >= limit:
                return

    read = offline_features(feature_set(recipe.feature_set), batches())
    return Part(source=source, features=read.features, labels=read.labels, n_rejected=rejects + read.n_bad)


def _joined(tables: list[pa.Table]) -> pa.RecordBatch:
    table = pa.concat_tables(tables).combine_chunks()
    return next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], schema=table.schema))


def _labels(column: pa.ChunkedArray) -> tuple[Labels, int]:
    filled: Labels = np.asarray(column.fill_null(NORMAL).to_numpy(), dtype=np.object_)
    return filled, column.null_count
