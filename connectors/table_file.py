"""Tables in files, comma text or Parquet, read in blocks from any record on in constant memory."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from connectors.base import Reject
from connectors.errors import SourceError
from connectors.lines import BOM, LONGEST_LINE, TextFile, readable

_END_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive records of a table: the well-formed ones by column, the others as rejects."""

    first: int
    next: int
    positions: npt.NDArray[np.int64]  # of the well-formed records
    raw: list[bytes]  # their bytes as they stand in the file (Parquet: their values as comma text)
    columns: dict[str, pa.Array]  # text, or numbers where the file is typed
    rejects: tuple[Reject, ...] = ()
    file: str = ""  # its name, for messages
    lines: Sequence[int] | None = None  # of the well-formed records, from 1; None: the file has no lines

    def where(self, row: int) -> str:
        """Say where a well-formed record stands, as the beginning of a sentence."""
        if self.lines is None:
            return f"{self.file} record {self.positions[row]}"
        return f"{self.file} line {self.lines[row]}"


class Table(Protocol):
    """A file of records with named columns."""

    n_records: int | None

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """Yield the records from `start` on, at most `rows` a block."""
        ...


def file_digest(path: Path) -> bytes:
    """Return a digest of size, first and last 64 KiB: names the content without reading all of it."""
    size = path.stat().st_size
    digest = hashlib.blake2b(b"%d," % size, digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(max(0, size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    return digest.digest()


def is_parquet(path: Path) -> bool:
    """Say whether the file begins as Parquet files do."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def first_lines(path: Path, n_lines: int) -> list[bytes]:
    """Return the first lines of a text file that are not blank, without their ends."""
    with readable(path), TextFile(path).open() as stream:
        return [line for line, _, _ in islice(_lines(stream), n_lines)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def split_names(line: bytes) -> list[str]:
    """Return the fields of a line as text."""
    return line.decode("utf-8", errors="replace").split(",")


_Line = tuple[bytes, bool, int]
"""A line without its end, whether it had one, and its number in the file, from 1."""


def _lines(stream: BinaryIO) -> Iterator[_Line]:
    """Yield each line that is not blank."""
    mark, number = BOM, 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        ended = line.endswith(b"\n")
        if not ended and len(line) == LONGEST_LINE:
            ended = _skip_line(stream)
        line = line.removeprefix(mark).rstrip(b"\r\n")
        mark = b""
        if line and not line.isspace():
            yield line, ended, number


def _skip_line(stream: BinaryIO) -> bool:
    while part := stream.readline(LONGEST_LINE):
        if part.endswith(b"\n"):
            return True
    return False


class TextTable:
    """Comma text without quotes, one record a line; blank lines are none.

    Parameters
    ----------
    path : Path
        The file, plain or gzipped.
    names : sequence of str
        Of all columns, in order.
    header : bool
        Whether the first line holds names.
    wanted : collection of str, optional
        The only columns that are read, each of them once in the file; default: all.
    legacy : str, optional
        Encoding of lines that are no UTF-8.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        *,
        header: bool,
        wanted: Collection[str] | None = None,
        legacy: str = "utf-8",
    ) -> None:
        self.n_records: int | None = None
        self._path = path
        self._names = list(names)
        self._wanted = [name for name in names if wanted is None or name in wanted]
        self._header = header
        self._legacy = legacy

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """Yield the records from `start` on, at most `rows` a block."""
        with readable(self._path), TextFile(self._path).open() as stream:
            lines = _lines(stream)
            next(islice(lines, start + self._header, start + self._header), None)
            while taken := list(islice(lines, rows)):
                yield self._block(start, taken)
                start += len(taken)

    def _block(self, first: int, lines: list[_Line]) -> Block:
        commas = len(self._names) - 1
        good = [
            line.count(b",") == commas and b"\r" not in line and len(line) < LONGEST_LINE - 2
            for line, _, _ in lines
        ]
        plain = _decodes([line for line, _, _ in lines], "utf-8")
        if not plain:
            good = [
                fine and (_decodes([line], "utf-8") or _decodes([line], self._legacy))
                for fine, (line, _, _) in zip(good, lines, strict=True)
            ]
        kept = [line for line, fine in zip(lines, good, strict=True) if fine]
        raw = [line for line, _, _ in kept]
        text = raw if plain else [_utf8(line, self._legacy) for line in raw]
        rejects = (self._reject(first + i, *lines[i]) for i, fine in enumerate(good) if not fine)
        return Block(
            first=first,
            next=first + len(lines),
            positions=first + np.flatnonzero(good).astype(np.int64),
            raw=raw,
            columns=split_cells(text, self._names, wanted=self._wanted),
            rejects=tuple(rejects),
            file=self._path.name,
            lines=[number for _, _, number in kept],
        )

    def _reject(self, position: int, line: bytes, ended: bool, number: int) -> Reject:  # noqa: FBT001 (a `_Line`)
        reason, detail = self._fault(line, ended=ended)
        where = f"{self._path.name} line {number}"
        return Reject(position=position, raw=line, reason=reason, detail=f"{where}: {detail}")

    def _fault(self, line: bytes, *, ended: bool) -> tuple[str, str]:
        expected, found = len(self._names), line.count(b",") + 1
        if len(line) >= LONGEST_LINE - 2:
            return "line_too_long", f"more than {LONGEST_LINE - 2} bytes without an end of line"
        if found != expected and not ended:
            return "truncated_record", f"the file ends after {found} fields of {expected}"
        if found != expected:
            return "wrong_field_count", f"{found} fields, expected {expected}"
        if b"\r" in line:
            return "stray_line_break", "a carriage return inside the line, expected none"
        return "not_utf8", "bytes that are no UTF-8 text"


def _decodes(lines: list[bytes], encoding: str) -> bool:
    try:
        b"\n".join(lines).decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _utf8(line: bytes, legacy: str) -> bytes:
    return line if _decodes([line], "utf-8") else line.decode(legacy).encode()


def split_cells(
    lines: Sequence[bytes],
    names: Sequence[str],
    *,
    delimiter: str = ",",
    wanted: Sequence[str] | None = None,
) -> dict[str, pa.Array]:
    """Return the cells of lines by column, as text; every line must have as many as there are names.

    Columns that are not `wanted` (default: all are) are left out.
    """
    wanted = list(names if wanted is None else wanted)
    if not lines:
        return {name: pa.array([], pa.string()) for name in wanted}
    data = b"\n".join(lines) + b"\n"
    csv = pyarrow.csv
    table = csv.read_csv(
        pa.BufferReader(data),
        # One thread and one block: a worker has one core, and a block has at most some thousand rows.
        read_options=csv.ReadOptions(column_names=list(names), use_threads=False, block_size=len(data) + 1),
        parse_options=csv.ParseOptions(
            delimiter=delimiter, quote_char=False, escape_char=False, ignore_empty_lines=False
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()),
            include_columns=wanted,
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    return {name: column.combine_chunks() for name, column in zip(wanted, table.columns, strict=True)}


class ParquetTable:
    """A Parquet file; its records' bytes are their values as comma text."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        with open_parquet(path) as file:
            self.n_records: int | None = file.metadata.num_rows
        self._path = path
        self._names = list(names)

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """Yield the records from `start` on, at most `rows` a block."""
        for first, batch in batches(self._path, start, rows):
            skipped = max(0, start - first)
            if skipped < batch.num_rows:
                yield self._block(first + skipped, batch.slice(skipped))

    def _block(self, first: int, batch: pa.RecordBatch) -> Block:
        columns = [_plain(column) for column in batch.columns]
        text = [column.cast(pa.string()) for column in columns]
        joined = pc.binary_join_element_wise(*text, ",", null_handling="replace", null_replacement="")
        cells = dict(zip(self._names, columns, strict=True))
        return typed_block(first, joined.cast(pa.binary()).to_pylist(), cells, self._path.name)


def typed_block(first: int, raw: list[bytes], columns: dict[str, pa.Array], file: str) -> Block:
    """Return the records of a typed file as a block; those with text that is no UTF-8 are rejects."""
    bad = sorted(set().union(*(_not_utf8(column) for column in columns.values())))
    good = np.setdiff1d(np.arange(len(raw)), bad, assume_unique=True)
    if bad:
        columns = {name: column.take(pa.array(good)) for name, column in columns.items()}
    detail = "bytes that are no UTF-8 text in a column of text"
    return Block(
        first=first,
        next=first + len(raw),
        positions=first + good,
        raw=[raw[row] for row in good] if bad else raw,
        columns=columns,
        rejects=tuple(
            Reject(
                position=at, raw=raw[at - first], reason="not_utf8", detail=f"{file} record {at}: {detail}"
            )
            for at in (first + row for row in bad)
        ),
        file=file,
    )


def _not_utf8(column: pa.Array) -> set[int]:
    if not pa.types.is_string(column.type):
        return set()
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        cells = column.cast(pa.binary()).to_pylist()
        return {row for row, cell in enumerate(cells) if cell and not _decodes([cell], "utf-8")}
    return set()


def parquet_names(path: Path) -> list[str]:
    """Return the column names of a Parquet file.

    Raises
    ------
    SourceError
        If it is broken or has columns that are neither text nor numbers.
    """
    with open_parquet(path) as file:
        schema = file.schema_arrow
    for column in schema:
        if not _is_plain(column.type):
            raise SourceError(
                f"{path}: column {column.name} has type {column.type}, expected text, numbers or times"
            )
    return list(schema.names)


def open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    """Open a Parquet file.

    Raises
    ------
    SourceError
        If it is broken.
    """
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: broken Parquet file ({_one_line(error)}); fetch it again") from error


def batches(
    path: Path, start: int, rows: int, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield batches from the row group that holds record `start` on, each with its first position."""
    with open_parquet(path) as file:
        groups, first = _groups_from(file, start)
        try:
            # One group at a time: asked for several, Arrow loads the bytes of all of them.
            for group in groups:
                for batch in file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
                    yield first, batch
                    first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{path}: damaged after record {first} ({_one_line(error)}); fetch it again"
            ) from error


def _groups_from(file: pyarrow.parquet.ParquetFile, start: int) -> tuple[list[int], int]:
    """Return the row groups that reach beyond record `start`, and where the first of them begins."""
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    ends = np.cumsum(sizes, dtype=np.int64)
    skipped = int(np.searchsorted(ends, start, side="right"))
    return list(range(skipped, len(sizes))), int(ends[skipped - 1]) if skipped else 0


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_null(kind)
        or types.is_timestamp(kind)
    )


def _plain(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column
    if pa.types.is_timestamp(column.type):
        # As text without a zone; one with a zone counts in UTC already.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.timestamp("us"))
    return column.cast(pa.int8() if pa.types.is_boolean(column.type) else pa.string())
