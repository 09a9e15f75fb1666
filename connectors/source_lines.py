"""A source over a text file with a record on each line: what Zeek, Suricata and their like have in common."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import compress, pairwise
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import ROWS_PER_CHUNK, Chunk, Reject
from connectors.errors import NotYetError, SourceError
from connectors.lines import BOM, HEAD_BYTES, LONGEST_LINE, LineReader, TextFile, readable
from connectors.records import CONN, LATEST_US, TIME
from connectors.table_fields import Fields
from connectors.table_file import Block

_PROBED = 20  # records that decide whether a file is what it was said to be

Fault = tuple[str, str]
"""Reason and detail of a line that is no record."""

Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number of a JSON object that fits an Arrow column; what it may be is for the record's check."""

T = TypeVar("T")

_NO_ROWS = pa.RecordBatch.from_pylist([], schema=CONN.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """Lines taken apart: the cells of those that are records, and what is wrong with others.

    Lines that are in neither are no flows: events of another kind.
    """

    rows: Sequence[int]  # index of each record among the lines, ascending
    columns: Mapping[str, pa.Array]  # cells of the records, under the format's own names
    faults: Mapping[int, Fault]  # by index among the lines


class LineFormat(Protocol):
    """How the lines of one kind of file become flows; it may remember the headers that it has met."""

    name: str
    about: str  # how a message calls such a file
    notes: tuple[str, ...]

    headers: tuple[bytes, ...]
    """How lines begin that describe those behind them."""

    def take_header(self, line: bytes) -> None:
        """Take in a line that begins so."""
        ...

    def parse(self, lines: Sequence[bytes]) -> Parsed:
        """Take apart lines that are no headers, not blank, and UTF-8."""
        ...

    def convert(self, fields: Fields) -> Mapping[str, pa.Array]:
        """Return the columns of conn@1 but for sensor and position; cells that cannot be read are faults."""
        ...


class LineSource:
    """Flows of a text file, plain or gzipped, each on a line of its own.

    A position is the number of a line, from 0. Lines that hold no flow (headers, blank ones, events of
    another kind) have positions without a row or a reject.

    The id of a source comes from its lines up to the first record: a file that grows, is renamed or
    packed stays the same source, and another day's file is another one.

    Parameters
    ----------
    file : TextFile
        The file; of one that is still written to, `chunks` yields an empty chunk now and then while
        nothing comes, and ends when the file is over.
    form : callable
        Makes the format for one reading.
    sensor : str, optional
        Where the flows were observed; default: the format's name.

    Raises
    ------
    SourceError
        If the file is missing, broken or not of this format.
    """

    record_type = CONN
    n_records: int | None = None

    def __init__(self, file: TextFile, form: Callable[[], LineFormat], *, sensor: str | None = None) -> None:
        self._file = file
        self._form = form
        first = form()
        self.name = first.name
        self.notes = first.notes
        self._sensor = first.name if sensor is None else sensor
        head = file.head()
        if not file.grows:
            self._probe(head)
        elif not begins(head):
            raise NotYetError(f"{file.path}: no record yet, expected {first.about}")
        identity = f"{self.name},{self._sensor},".encode() + (opening(head) or head)
        self.source_id = hashlib.blake2b(identity, digest_size=10).hexdigest()

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from line `start` on, at most `rows` lines a chunk."""
        form = self._form()
        with readable(self._file.path), self._file.open() as stream:
            for first, lines in _blocks(LineReader(stream, self._file), form, rows):
                skipped = max(0, start - first)
                if skipped < len(lines) or not lines:
                    yield self._chunk(form, first + skipped, lines[skipped:])

    def _chunk(self, form: LineFormat, first: int, lines: Sequence[bytes]) -> Chunk:
        parsed = _parsed(form, lines)
        rows, faults = self._records(form, parsed, first) if parsed.rows else (_NO_ROWS, {})
        faults |= parsed.faults
        rejects = tuple(self._reject(first + line, lines[line], *faults[line]) for line in sorted(faults))
        return Chunk(rows=rows, first=first, next=first + len(lines), rejects=rejects)

    def _records(
        self, form: LineFormat, parsed: Parsed, first: int
    ) -> tuple[pa.RecordBatch, dict[int, Fault]]:
        """Return the records among some lines, and what is wrong with the others by their line."""
        at = np.asarray(parsed.rows, dtype=np.int64)
        columns = dict(parsed.columns)
        fields = Fields(
            Block(first=first, next=first + at.size, positions=first + at, raw=[], columns=columns)
        )
        identity = {"sensor": pa.repeat(self._sensor, at.size), "position": pa.array(first + at)}
        batch = pa.RecordBatch.from_pydict({**identity, **form.convert(fields)})
        kept = np.delete(np.arange(at.size), list(fields.faults))
        checked = self.record_type.check(batch.take(pa.array(kept)) if fields.faults else batch)
        faults = {int(at[row]): fault for row, fault in fields.faults.items()}
        return checked.rows, faults | {int(at[kept[b.index]]): (b.reason, b.detail) for b in checked.bad}

    def _reject(self, position: int, line: bytes, reason: str, detail: str) -> Reject:
        where = f"{self._file.path.name} line {position + 1}"
        return Reject(position=position, raw=line, reason=reason, detail=f"{where}: {detail}")

    def _probe(self, head: bytes) -> None:
        """Refuse a file none of whose first records can be read."""
        form = self._form()
        if not head.strip():
            raise SourceError(f"{self._file.path}: the file is empty, expected {form.about}")
        blocks = _blocks(LineReader(BytesIO(head), TextFile(self._file.path)), form, _PROBED)
        first, lines = next((block for block in blocks if any(block[1])), (0, []))
        chunk = self._chunk(form, first, lines)
        if chunk.rejects and not chunk.rows.num_rows:
            raise SourceError(
                f"{self._file.path}: none of its first {len(chunk.rejects)} records reads as {form.about}; "
                f"{chunk.rejects[0].detail}"
            )


_COMMENTS = (b"#", b"\t#", b" #")  # some tools indent the header


def opening(head: bytes) -> bytes:
    """Return the lines of a file up to its first record, or nothing if that is not there to its end.

    Parameters
    ----------
    head : bytes
        The beginning of the file, unpacked.
    """
    end = 0
    for line in head.splitlines(keepends=True):
        end += len(line)
        if line.strip() and not line.startswith(_COMMENTS):
            return head[:end] if line.endswith(b"\n") else b""
    return b""


def begins(head: bytes) -> bool:
    """Say whether a file that is written to holds a first record, or what will never be one."""
    return len(head) >= HEAD_BYTES - len(BOM) or bool(opening(head))


def _blocks(reader: LineReader, form: LineFormat, rows: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield at most `rows` lines at a time, with the number of the first; headers are taken in, and blank.

    A block ends before a header, so that all its lines have the same one.
    """
    first = 0
    for batch in reader.batches(rows):
        if not batch:
            yield first, batch
        is_header = [line.startswith(form.headers) for line in batch]
        borders = [i for i, (before, here) in enumerate(pairwise([False, *is_header])) if here and not before]
        for begin, end in pairwise([0, *borders, len(batch)]):
            for line in compress(batch[begin:end], is_header[begin:end]):
                form.take_header(line)
            if end > begin:
                texts = zip(batch[begin:end], is_header[begin:end], strict=True)
                yield first + begin, [b"" if header else line for line, header in texts]
        first += len(batch)


def _parsed(form: LineFormat, lines: Sequence[bytes]) -> Parsed:
    """Have the lines taken apart that can be text of a record."""
    faults = _unreadable(lines)
    at = [i for i, line in enumerate(lines) if line and i not in faults and not line.isspace()]
    parsed = form.parse([lines[i] for i in at])
    return Parsed(
        rows=[at[row] for row in parsed.rows],
        columns=parsed.columns,
        faults=faults | {at[row]: fault for row, fault in parsed.faults.items()},
    )


def _unreadable(lines: Sequence[bytes]) -> dict[int, Fault]:
    """Return what is wrong with lines that are no text; nothing, after one look, where all are good."""
    if max(map(len, lines), default=0) < LONGEST_LINE and _is_text(b"\n".join(lines)):
        return {}
    return {i: fault for i, line in enumerate(lines) if (fault := _line_fault(line))}


def _line_fault(line: bytes) -> Fault | None:
    if len(line) >= LONGEST_LINE:
        return "line_too_long", f"{LONGEST_LINE} bytes or more without an end of line, expected a record"
    if b"\0" in line:
        return (
            "nul_byte",
            f"a NUL byte at {line.index(0)}, expected text: the file was cut or not all written",
        )
    return None if _is_text(line) else ("not_utf8", "bytes that are no UTF-8 text")


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def decoded(
    decode: Callable[[bytes], T], lines: Sequence[bytes]
) -> tuple[list[T], list[int], dict[int, Fault]]:
    """Return the objects of JSON lines, the index of each, and what is wrong with the other lines."""
    try:
        return list(map(decode, lines)), list(range(len(lines))), {}
    except (msgspec.DecodeError, RecursionError):
        pass
    found: list[T] = []
    rows: list[int] = []
    faults: dict[int, Fault] = {}
    for i, line in enumerate(lines):
        try:
            found.append(decode(line))
        except msgspec.ValidationError as error:
            faults[i] = ("unreadable_value", f"{error}")
        except (msgspec.DecodeError, RecursionError) as error:
            faults[i] = ("not_json", f"{error}, expected a JSON object")
        else:
            rows.append(i)
    return found, rows, faults


def columns_of(kind: type[msgspec.Struct], structs: Sequence[msgspec.Struct]) -> dict[str, Sequence[Any]]:
    """Return the values of structs by field, under the names that these have in JSON."""
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    values = zip(*map(msgspec.structs.astuple, structs), strict=True) if structs else [()] * len(names)
    return dict(zip(names, values, strict=True))


def lower(fields: Fields, name: str) -> pa.Array:
    """Return a column of text in lower case; an empty cell is null."""
    text = pc.utf8_lower(fields.text(name))
    return pc.if_else(pc.equal(text, ""), None, text)


def ended_at(start_s: pa.Array, duration_s: pa.Array) -> pa.Array:
    """Return when flows ended, to the microsecond; absurd times are left to the record's check."""
    start, duration = (_microseconds(seconds) for seconds in (start_s, duration_s))
    ended = np.where(start < 0, -1, np.clip(start + duration, -1, LATEST_US))
    return pa.array(ended, pa.int64(), mask=_missing(start_s)).cast(TIME)


def _microseconds(seconds: pa.Array) -> npt.NDArray[np.int64]:
    numbers = np.nan_to_num(np.asarray(pc.fill_null(seconds, -1.0), dtype=np.float64), nan=-1.0)
    # float64 holds today's seconds to a quarter of a microsecond: rounding gives back what was written.
    return np.rint(np.clip(numbers, -1e-6, LATEST_US / 1e6) * 1e6).astype(np.int64)


def _missing(column: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_null(), dtype=np.bool_)
