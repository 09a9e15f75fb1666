"""A source over one file of a public dataset: what every such file has in common."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from connectors import layouts, table_file
from connectors.base import ROWS_PER_CHUNK, Chunk, Reject
from connectors.errors import SourceError
from connectors.layouts import Layout
from connectors.records import IDENTITY, TIME, RecordType
from connectors.table_fields import Fields
from connectors.table_file import Block, Table

STEP_US = 10_000
"""Synthetic event times: microseconds from one record to the next (100 flows a second)."""

_PROBED = 20  # records that decide whether a file is what it was said to be

Convert = Callable[[Fields, Layout], Mapping[str, pa.Array]]
"""Cells of a block -> columns of the record type, without sensor, flow_id and position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """How the files of one dataset become records."""

    name: str
    record_type: RecordType
    layouts: tuple[Layout, ...]
    convert: Convert
    notes: Callable[[Layout], tuple[str, ...]]


class TableSource:
    """Records of one dataset file, comma text (also gzipped) or Parquet.

    Ids come from content: `source_id` from dataset, sensor, size and both ends of the file;
    `flow_id` from the sensor, the file's first record, the index of the record and its bytes. The
    same file gives the same ids under any path. The text and the Parquet form of a table are two
    different files.

    Raises
    ------
    SourceError
        If the file is missing, empty, or not of this dataset; the message names the first wrong
        column and, where it looks like another known dataset, which.
    """

    def __init__(self, path: Path, dataset: Dataset, *, sensor: str | None = None) -> None:
        if not path.is_file():
            raise SourceError(
                f"{path}: no such file; expected {' or '.join(k.about for k in dataset.layouts)}"
            )
        self.name = dataset.name
        self.record_type = dataset.record_type
        self._sensor = dataset.name if sensor is None else sensor
        self._dataset = dataset
        self._table, self._layout = _open(path, dataset)
        self.n_records = self._table.n_records
        self.notes = dataset.notes(self._layout)
        first = self._probe(path)
        self.source_id = file_id(self.name, self._sensor, path)
        self._salt = salt(self._sensor, first)

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        for block in self._table.blocks(start, rows):
            yield self._chunk(block)

    def _chunk(self, block: Block) -> Chunk:
        fields = Fields(block)
        columns = {
            "sensor": pa.repeat(self._sensor, len(fields)),
            "flow_id": flow_ids(block, self._salt),
            **self._dataset.convert(fields, self._layout),
        }
        return assembled(block, fields, columns, self.record_type)

    def _probe(self, path: Path) -> bytes:
        """Return the bytes of the first record; refuse a file none of whose first records can be read."""
        block = next(self._table.blocks(0, _PROBED), None)
        if block is None:
            if self.n_records is None:
                raise SourceError(f"{path}: no record in the file, expected {self._layout.about}")
            return b""
        fields = Fields(block)
        self._dataset.convert(fields, self._layout)
        if len(fields.faults) == len(block.raw):
            why = next(
                (f"{block.where(row)}: {detail}" for row, (_, detail) in sorted(fields.faults.items())),
                "no record has the right form",
            )
            raise SourceError(
                f"{path}: none of the first {block.next} records reads as {self._layout.about}: {why}"
            )
        return block.raw[0] if block.positions[0] == 0 else block.rejects[0].raw


def file_id(name: str, sensor: str, path: Path) -> str:
    """Return the identity of a file's content as a source of some kind."""
    identity = f"{name},{sensor},".encode()
    return hashlib.blake2b(identity + table_file.file_digest(path), digest_size=10).hexdigest()


def salt(sensor: str, first: bytes) -> bytes:
    """Return what makes the ids of two files differ, at no cost a row: from sensor and first record."""
    return hashlib.blake2b(sensor.encode() + b"," + first, digest_size=16).digest()


def flow_ids(block: Block, salt: bytes) -> pa.Array:
    """Return the ids of a block's records, from their positions and bytes."""
    blake2b = hashlib.blake2b
    ids = [
        blake2b(b"%d," % position + raw, digest_size=10, salt=salt).hexdigest()
        for position, raw in zip(block.positions.tolist(), block.raw, strict=True)
    ]
    return pa.array(ids, pa.string())


def assembled(
    block: Block, fields: Fields, columns: Mapping[str, pa.Array], record_type: RecordType
) -> Chunk:
    """Return a block as a chunk; records with a fault, or that fail the check, are rejects."""
    batch = pa.RecordBatch.from_pydict({**columns, "position": pa.array(block.positions)})
    readable = np.setdiff1d(np.arange(len(fields)), list(fields.faults), assume_unique=True)
    if fields.faults:
        batch = batch.take(pa.array(readable))
    checked = record_type.check(batch)
    faults = fields.faults | {int(readable[b.index]): (b.reason, b.detail) for b in checked.bad}
    rejects = [*block.rejects, *(_reject(block, row, *why) for row, why in faults.items())]
    rejects.sort(key=lambda reject: reject.position)
    return Chunk(rows=checked.rows, first=block.first, next=block.next, rejects=tuple(rejects))


def synthetic_times(fields: Fields, start_us: int) -> pa.Array:
    """Return event times for a dataset that has none: `STEP_US` apart, by position."""
    return pa.array(start_us + fields.positions * STEP_US).cast(TIME)


def feature_columns(fields: Fields, record_type: RecordType) -> dict[str, pa.Array]:
    """Return the columns of a record type beyond identity, each read as its Arrow type says."""
    readers = {pa.float64(): fields.number, pa.int64(): fields.count, pa.string(): fields.text}
    return {c.name: readers[c.type](c.name) for c in record_type.columns if c.name not in IDENTITY}


def _reject(block: Block, row: int, reason: str, detail: str) -> Reject:
    return Reject(
        position=int(block.positions[row]),
        raw=block.raw[row],
        reason=reason,
        detail=f"{block.where(row)}: {detail}",
    )


def _open(path: Path, dataset: Dataset) -> tuple[Table, Layout]:
    if table_file.is_parquet(path):
        names = table_file.parquet_names(path)
        layout = _layout_of(path, names, dataset)
        return table_file.ParquetTable(path, [layout.canonical(name) for name in names]), layout
    lines = table_file.first_lines(path, _PROBED)
    if not lines:
        raise SourceError(f"{path}: the file is empty, expected {dataset.layouts[0].about}")
    names = table_file.split_names(lines[0])
    if _is_header(names) or not any(layout.headerless for layout in dataset.layouts):
        layout = _layout_of(path, names, dataset)
        canonical = [layout.canonical(name) for name in names]
        wanted, legacy = layout.columns, layout.legacy
        return table_file.TextTable(path, canonical, header=True, wanted=wanted, legacy=legacy), layout
    counts = [line.count(b",") + 1 for line in lines]
    for layout in dataset.layouts:
        if layout.headerless and len(layout.columns) in counts:
            return table_file.TextTable(path, layout.columns, header=False), layout
    raise layouts.wrong_count(str(path), counts[0], dataset.layouts)


def _is_header(names: list[str]) -> bool:
    """Say whether a first line holds column names: at least half of them are known ones."""
    known = {name for layout in layouts.LAYOUTS for name in layout.columns}
    found = sum(layouts.UNSW_RAW.canonical(name) in known for name in names)
    return 2 * found >= len(names)


def _layout_of(path: Path, names: list[str], dataset: Dataset) -> Layout:
    layout = layouts.matching(names, dataset.layouts)
    if layout is None:
        raise layouts.wrong_names(str(path), names, dataset.layouts)
    canonical = [layout.canonical(name) for name in names]
    repeated = next((name for name in layout.columns if canonical.count(name) > 1), None)
    if repeated is not None:
        raise SourceError(f"{path}: column {repeated} occurs twice, expected once")
    return layout
