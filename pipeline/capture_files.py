"""The files of a capture: rows of one lane of a features topic between two offsets, as Parquet.

A file is written under a hidden name and renamed when it is complete. Its name and its metadata say what it
holds, so the folder itself is the memory of how far a capture has come.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BusyError, CaptureError
from pipeline.features.base import FeatureSet

METADATA = b"weir.capture"
PARTIAL = ".partial-"
"""How the name of a file begins that is being written, or was when its writer died."""

LOCK = ".lock"

ROWS_PER_GROUP = 32_768
"""Rows held in memory for each lane: about 10 MB of the widest feature set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFile:
    """A complete file, as its metadata describe it."""

    topic: str
    feature_set: str  # FeatureSet.id
    lane: int
    first: int  # offset of its first message
    next: int  # offset after its last message
    flows_offset: int  # greatest one that it answers: what comes again is left out
    rows: int
    first_us: int  # least and greatest event time, microseconds since 1970
    last_us: int
    lost_before: int = 0  # offsets right before the first one that the log no longer had
    path: Path = field(default=Path(), compare=False)

    @property
    def name(self) -> str:
        """Name of the file."""
        span = f"{_stamp(self.first_us)}-{_stamp(self.last_us)}"
        offsets = f"{self.first:012d}-{self.next - 1:012d}"
        feature_set = self.feature_set.replace(":", "-")
        return f"{self.topic}_{feature_set}_lane{self.lane:04d}_{offsets}_{span}.parquet"

    def metadata(self) -> dict[str, str]:
        """Return what is written into the file."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        return {METADATA.decode(): json.dumps(content)}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the metadata of a file.

        Raises
        ------
        CaptureError
            If it is damaged, or not a file of a capture.
        """
        try:
            content = json.loads((pq.read_metadata(path).metadata or {})[METADATA])
            return cls(**content, path=path)
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise CaptureError(
                f"{path} is no file of weir capture ({type(error).__name__}: {str(error)[:120]}); "
                "take it out of the folder"
            ) from error


def _stamp(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def capture_files(folder: Path) -> list[CaptureFile]:
    """Return the complete files of a folder, by topic and lane in the order of their offsets.

    Raises
    ------
    CaptureError
        If a Parquet file in it is damaged, or not of a capture.
    """
    found = [CaptureFile.read(path) for path in folder.glob("*.parquet") if not path.name.startswith(".")]
    return sorted(found, key=lambda file: (file.topic, file.lane, file.first))


def captured_rows(folder: Path, *, beside: str = "") -> int:
    """Return how many rows the complete files of a folder hold, those of the topic `beside` left out."""
    return sum(file.rows for file in capture_files(folder) if file.topic != beside)


class OpenFile:
    """The file that a lane is being written to."""

    def __init__(self, folder: Path, feature_set: FeatureSet, begun: CaptureFile, now: float) -> None:
        self.holds = begun
        self.since = now
        self._path = folder / f"{PARTIAL}{begun.topic}-{begun.lane}.parquet"
        self._sink = self._path.open("wb")
        self._writer = pq.ParquetWriter(self._sink, feature_set.schema, compression="zstd")
        self._held: list[pa.RecordBatch] = []
        self._n_held = 0

    @property
    def size_bytes(self) -> int:
        """What is on disk; at most `ROWS_PER_GROUP` rows more are held."""
        return int(self._sink.tell())

    def add(self, rows: pa.RecordBatch) -> None:
        """Take some rows."""
        self._held.append(rows)
        self._n_held += rows.num_rows
        if self._n_held >= ROWS_PER_GROUP:
            self._write()

    def _write(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held))
            self._held, self._n_held = [], 0

    def close(self) -> CaptureFile:
        """Make it a complete file and return what it holds."""
        self._write()
        self._writer.add_key_value_metadata(self.holds.metadata())
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        path = self._path.with_name(self.holds.name)
        self._path.rename(path)
        return replace(self.holds, path=path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and keep every other capture out of it until the block ends.

    Raises
    ------
    BusyError
        If another capture writes there.
    CaptureError
        If the folder cannot be made or written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(
                f"another capture writes to {folder}; end that one, or take another folder"
            ) from error
        yield


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        raise CaptureError(
            f"{folder} cannot be written ({error.strerror or error}); give a folder with space that you may "
            "write to"
        ) from error
