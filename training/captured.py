"""Captured features as a dataset: nobody labelled them, so every row is taken as normal until trimmed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from detectors.base import Progress, no_progress
from pipeline.capture_files import CaptureFile, capture_files
from pipeline.features.arrays import times_us
from pipeline.features.base import FeatureSet
from pipeline.features.feature_sets import feature_set
from training.datasets import Dataset
from training.errors import DatasetError, TrainingError
from training.metrics import NORMAL
from training.splits import US_PER_S, Fractions, Rows, Split, ordered_split

NEWEST = 2_000_000
"""Rows read unless told otherwise: about 1 GB of the feature set `conn`."""

FRACTIONS = Fractions(fit=0.5, val=0.1, cal=0.2)
"""The last fifth is the test part: without labels it tells how often the model alarms, nothing else."""


@dataclass(frozen=True, kw_only=True)
class Captured(Dataset):
    """Rows of several lanes, one lane after another, each in the order of its log."""

    lanes: npt.NDArray[np.int64]  # (n,): which lane each row is of

    @property
    def hours(self) -> float:
        """Event time that the rows cover, summed over lanes that run beside each other only once."""
        spans = sorted(self._spans())
        covered, end = 0, spans[0][0]
        for first, last in spans:
            covered += max(0, last - max(first, end))
            end = max(end, last)
        return covered / US_PER_S / 3600

    def _spans(self) -> Iterator[tuple[int, int]]:
        for lane in np.unique(self.lanes):
            times = self.times[self.lanes == lane]
            yield int(times.min()), int(times.max())

    def split(self, *, seed: int, fractions: Fractions | None = None) -> Split:  # noqa: ARG002 the base's
        """Return the split in which each lane is cut by its own times; time is no matter of chance."""
        parts = [self._lane_split(int(lane), fractions or FRACTIONS) for lane in np.unique(self.lanes)]
        found = [part for part in parts if isinstance(part, Split)]
        if not found:
            raise next(part for part in parts if not isinstance(part, Split))
        left_out = {"gap": sum(part.left_out.get("gap", 0) for part in found)}
        left_out["lanes too short to be split"] = len(self.times) - left_out["gap"] - _n_rows(found)
        return Split(
            fit=_joined([part.fit for part in found]),
            val=_joined([part.val for part in found]),
            cal=_joined([part.cal for part in found]),
            test=_joined([part.test for part in found]),
            protocol=f"{found[0].protocol}, in each lane by itself",
            left_out=left_out,
        )

    def _lane_split(self, lane: int, fractions: Fractions) -> Split | TrainingError:
        rows = np.flatnonzero(self.lanes == lane).astype(np.int64)
        try:
            split = ordered_split(
                np.ones(rows.size, dtype=np.bool_),
                times=self.times[rows],
                fractions=fractions,
                gap_s=self.gap_s,
            )
        except TrainingError as error:
            return error
        return replace(
            split, fit=rows[split.fit], val=rows[split.val], cal=rows[split.cal], test=rows[split.test]
        )


def _joined(parts: Sequence[Rows]) -> Rows:
    return np.sort(np.concatenate(parts))


def _n_rows(splits: Sequence[Split]) -> int:
    return sum(rows.size for split in splits for rows in split.parts.values())


def load_captured(
    folder: Path, name: str, *, newest: int = NEWEST, progress: Progress = no_progress
) -> Captured:
    """Return what `weir capture` kept in a folder.

    Parameters
    ----------
    folder : Path
        With files of one feature set.
    name : str
        Of the feature set that is wanted.
    newest : int
        Read only so many rows, the newest ones, whole files.
    progress : Progress
        Called as files are read.

    Raises
    ------
    DatasetError
        If there are no rows, or they are of several feature sets or of another one.
    CaptureError
        If a file is damaged.
    """
    wanted = feature_set(name)
    found = capture_files(folder)
    _check(found, wanted, folder)
    files = _newest(found, newest)
    tables = []
    for index, file in enumerate(files, start=1):
        tables.append(pq.read_table(file.path, schema=wanted.schema))
        progress(f"read {folder.name}", index / len(files))
    lanes = np.repeat(_lane_numbers(files), [table.num_rows for table in tables])
    (features,) = pa.concat_tables(tables).combine_chunks().to_batches()
    return Captured(
        name=name,
        feature_set=wanted,
        features=features,
        labels=np.full(features.num_rows, NORMAL, dtype=np.object_),
        times=times_us(features),
        test=None,
        order="time",
        gap_s=float(wanted.windows.widths_s[-1]) if wanted.windows else 0.0,
        fingerprint=_fingerprint(files, wanted),
        notes=tuple(_notes(found, files)),
        n_rejected=0,
        lanes=lanes,
    )


def _check(files: Sequence[CaptureFile], wanted: FeatureSet, folder: Path) -> None:
    sets = sorted({file.feature_set for file in files})
    if not files:
        raise DatasetError(f"{folder} holds no captured flow; run weir capture --out {folder} first")
    if len(sets) > 1:
        raise DatasetError(
            f"{folder} mixes feature sets {', '.join(sets)}, expected one; give each a folder of its own"
        )
    if sets != [wanted.id]:
        raise DatasetError(
            f"{folder} holds feature set {sets[0]}, but this program has {wanted.id}; name the set that was "
            "captured, or capture again with this version"
        )


def _newest(files: Sequence[CaptureFile], most: int) -> list[CaptureFile]:
    """Return the newest files with about `most` rows, at least one, in their order."""
    chosen: list[CaptureFile] = []
    for file in sorted(files, key=lambda file: file.last_us, reverse=True):
        if chosen and sum(taken.rows for taken in chosen) + file.rows > most:
            break
        chosen.append(file)
    return [file for file in files if file in chosen]


def _lane_numbers(files: Sequence[CaptureFile]) -> list[int]:
    """Return a number for the lane of each file; lanes of two topics are different ones."""
    groups = groupby(files, key=lambda file: (file.topic, file.lane))
    return [number for number, (_, group) in enumerate(groups) for _ in group]


def _fingerprint(files: Sequence[CaptureFile], chosen: FeatureSet) -> str:
    spans = [f"{file.topic}/{file.lane} {file.first} {file.next} {file.rows}" for file in files]
    times = [f"{file.first_us} {file.last_us}" for file in files]
    return hashlib.sha256("\n".join([chosen.id, *spans, *times]).encode()).hexdigest()


def _notes(found: Sequence[CaptureFile], used: Sequence[CaptureFile]) -> Iterator[str]:
    yield "Nobody labelled these flows: what is in them and rare enough is learned as normal."
    if len(used) < len(found):
        yield f"Only the newest {len(used)} of {len(found)} files of the capture were read."
    if lost := sum(file.lost_before for file in used):
        yield f"{lost} messages left the log before they were captured."
