"""A Parquet file with the columns of conn@1 under their names, as weir and other tools write it.

Direction is that of the file: `src` is taken as the originator, `dst` as the responder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from connectors import table_file
from connectors.base import ROWS_PER_CHUNK, Chunk
from connectors.errors import SourceError
from connectors.records import ADDRESS, CONN, TIME, Column
from connectors.source_table import assembled, file_id, flow_ids, salt
from connectors.table_fields import Fields, is_binary
from connectors.table_file import Block

_COMPUTED = ("sensor", "flow_id", "position")
"""Columns that are made where the file lacks them; positions always are those in the file."""

_REQUIRED = tuple(c.name for c in CONN.columns if not c.nullable and c.name not in _COMPUTED)
_READ = tuple(c for c in CONN.columns if c.name != "position")


def recognises_columns(names: Sequence[str]) -> bool:
    """Say whether a table with these columns holds records of type conn@1.

    Examples
    --------
    >>> recognises_columns(["event_time", "duration", "src_bytes", "src_packets", "state", "mine"])
    True
    """
    return set(_REQUIRED) <= set(names)


class ParquetSource:
    """Records of one Parquet file.

    Addresses may be text or 4 or 16 bytes, times a timestamp of any unit and zone (without one: UTC) or
    text. Optional columns may be missing, extra ones are ignored. Ids that the file has are kept; the others
    are computed from the sensor, the file's first record, the index of the record and its values.

    Parameters
    ----------
    path : Path
        The file.
    sensor : str, optional
        Where all flows were observed; default: what the file says, and `conn-parquet` where it does not.

    Raises
    ------
    SourceError
        If the file is missing, broken or without a column that conn@1 requires.
    """

    name = "conn-parquet"
    record_type = CONN
    notes: tuple[str, ...] = (
        "Source and destination, and what the bytes are, are as whoever wrote the file took them.",
        "Positions are the places of the records in this file, whatever its own column of that name says.",
    )

    def __init__(self, path: Path, *, sensor: str | None = None) -> None:
        _refuse_other_files(path)
        with table_file.open_parquet(path) as file:
            schema = file.schema_arrow
            self.n_records: int | None = file.metadata.num_rows
        self._columns = _readable(path, schema)
        self._path = path
        self._sensor = sensor
        default = self.name if sensor is None else sensor
        self.source_id = file_id(self.name, default, path)
        first = next(self._blocks(0, 1), None)
        self._salt = salt(default, _first_record(first) if first else b"")

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        for block in self._blocks(start, rows):
            fields = Fields(block)
            columns = {c.name: _read(fields, c) for c in self._columns}
            columns["sensor"] = self._sensors(fields, columns.get("sensor"))
            columns["flow_id"] = self._flow_ids(block, columns.get("flow_id"))
            yield assembled(block, fields, columns, CONN)

    def _blocks(self, start: int, rows: int) -> Iterator[Block]:
        names = [c.name for c in self._columns]
        for begin, batch in table_file.batches(self._path, start, rows, names):
            skipped = max(0, start - begin)
            if skipped < batch.num_rows:
                yield self._block(begin + skipped, batch.slice(skipped))

    def _block(self, first: int, batch: pa.RecordBatch) -> Block:
        columns = {c.name: _decoded(batch.column(c.name)) for c in self._columns}
        return table_file.typed_block(first, _joined(list(columns.values())), columns, self._path.name)

    def _sensors(self, fields: Fields, given: pa.Array | None) -> pa.Array:
        if self._sensor is None and given is not None:
            return pc.fill_null(given, self.name)
        return pa.repeat(self.name if self._sensor is None else self._sensor, len(fields))

    def _flow_ids(self, block: Block, given: pa.Array | None) -> pa.Array:
        if given is not None and not given.null_count:
            return given
        computed = flow_ids(block, self._salt)
        return computed if given is None else pc.coalesce(given, computed)


def _first_record(block: Block) -> bytes:
    return block.raw[0] if block.raw else block.rejects[0].raw


def _refuse_other_files(path: Path) -> None:
    expected = "expected a Parquet file with the columns of conn@1"
    if not path.is_file():
        raise SourceError(f"{path}: no such file; {expected}")
    if not table_file.is_parquet(path):
        raise SourceError(f"{path}: does not begin as Parquet files do; {expected}")


def _readable(path: Path, schema: pa.Schema) -> tuple[Column, ...]:
    """Return the columns of conn@1 that the file has, or refuse it."""
    missing = [name for name in _REQUIRED if name not in schema.names]
    if missing:
        raise SourceError(
            f"{path}: no column {missing[0]}; expected the columns of conn@1, of which "
            f"{', '.join(_REQUIRED)} must be there; found {', '.join(schema.names)[:200]}"
        )
    columns = tuple(c for c in _READ if c.name in schema.names)
    for column in columns:
        _refuse_wrong_type(path, column, schema)
    return columns


def _refuse_wrong_type(path: Path, column: Column, schema: pa.Schema) -> None:
    if schema.names.count(column.name) > 1:
        raise SourceError(f"{path}: column {column.name} occurs twice, expected once")
    kind = schema.field(column.name).type
    expected = {TIME: "timestamp or text", ADDRESS: "text, or 4 or 16 bytes"}.get(column.type, "text")
    if column.type in (pa.int64(), pa.float64(), pa.uint16()):
        expected = "numbers"
    if not _fits(kind.value_type if pa.types.is_dictionary(kind) else kind, column.type):
        raise SourceError(f"{path}: column {column.name} has type {kind}, expected {expected}")


def _fits(kind: pa.DataType, wanted: pa.DataType) -> bool:
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind):
        return True
    if wanted == TIME:
        return bool(types.is_timestamp(kind))
    if wanted == ADDRESS:
        return is_binary(kind)
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(number and wanted != pa.string())


def _decoded(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    plain = pa.types.is_large_string(column.type) or pa.types.is_null(column.type)
    return column.cast(pa.string()) if plain else column


def _joined(columns: list[pa.Array]) -> list[bytes]:
    """Return the values of each record as comma text; addresses that are bytes stay bytes."""
    cells = [
        (column if is_binary(column.type) else column.cast(pa.string())).cast(pa.binary())
        for column in columns
    ]
    joined = pc.binary_join_element_wise(
        *cells, pa.scalar(b",", pa.binary()), null_handling="replace", null_replacement=b""
    )
    raw: list[bytes] = joined.to_pylist()
    return raw


def _read(fields: Fields, column: Column) -> pa.Array:
    """Return a column as its type in conn@1; cells that cannot be read are faults."""
    readers = {
        TIME: fields.time,
        ADDRESS: fields.address,
        pa.uint16(): fields.port,
        pa.int64(): fields.count,
        pa.float64(): fields.number,
        pa.string(): fields.exact,
    }
    return readers[column.type](column.name)
