"""Flows of nfdump: its binary files, read through the program `nfdump`, or what `nfdump -o json` printed.

Records are those of routers, mostly of one direction: the sender is the source, and what came back stands in
a record of its own. Only records that hold both directions have an answer.
"""

import os
import selectors
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from connectors import nfdump_json
from connectors.base import ROWS_PER_CHUNK, Chunk, Reject
from connectors.errors import SourceError
from connectors.lines import TextFile, readable
from connectors.nfdump_json import Flow, Piece
from connectors.records import CONN
from connectors.source_table import assembled, file_id, flow_ids, salt
from connectors.table_fields import Fields
from connectors.table_file import Block

PROGRAM = "nfdump"
SILENCE_S = 60.0
"""Seconds without a byte of output after which the program is taken to hang."""

# Magic number and version of the layout (1: of nfdump 1.6, 2: of 1.7), in either byte order.
_STARTS = (b"\x0c\xa5\x01\x00", b"\x0c\xa5\x02\x00", b"\xa5\x0c\x00\x01", b"\xa5\x0c\x00\x02")
_PART = 1 << 18
_PROBED = 20  # records that decide whether a file is what it was said to be
_EXPECTED = "expected a binary file of nfdump, or what `nfdump -o json` printed"

_ONE_WAY = (
    "Records are of one direction, unless they hold counters of both: the source is the sender, and the "
    "answer is a record of its own."
)
_FROM_BINARY = (_ONE_WAY, "Bytes are those of IP packets as the exporter counted them.")
_FROM_JSON = (
    *_FROM_BINARY,
    "Times are taken as UTC: nfdump prints the local time of where it runs; print with TZ=UTC.",
)


def recognises(head: bytes) -> bool:
    """Say whether a file that begins so is a binary one of nfdump, or its JSON."""
    return _is_binary(head) or nfdump_json.recognises(head)


def _is_binary(head: bytes) -> bool:
    return any(head.startswith(start) for start in _STARTS)


class NfdumpSource:
    """Flows of one nfdump file, binary or printed as JSON (also gzipped).

    Both forms of a file give the same flows and ids, as long as the JSON was printed with times in UTC
    (`TZ=UTC nfdump -r FILE -o json`) by the same release of nfdump.

    Parameters
    ----------
    path : Path
        The file.
    sensor : str, optional
        Where the flows were observed; default: nfdump.

    Raises
    ------
    SourceError
        If the file is missing, not nfdump's, holds no flow or is broken; if it is binary and the program
        `nfdump` is not installed or does not answer.
    """

    name = "nfdump"
    record_type = CONN
    n_records: int | None = None

    def __init__(self, path: Path, *, sensor: str | None = None) -> None:
        if not path.is_file():
            raise SourceError(f"{path}: no such file; {_EXPECTED}")
        self._path = path
        self._sensor = self.name if sensor is None else sensor
        head = TextFile(path).head()
        if not recognises(head):
            raise SourceError(
                f"{path}: begins as no file of nfdump does; {_EXPECTED}, one flow or one field a line"
            )
        self._binary = _is_binary(head)
        if self._binary and _is_zipped(path):
            raise SourceError(f"{path}: a gzipped binary file of nfdump, which nfdump cannot read; unpack it")
        self.notes = _FROM_BINARY if self._binary else _FROM_JSON
        self.source_id = file_id(self.name, self._sensor, path)
        self._salt = b""
        self._salt = salt(self._sensor, self._probe())

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        with closing(self._parts()) as parts:
            pieces = nfdump_json.pieces(parts)
            next(islice(pieces, start, start), None)
            error: SourceError | None = None
            while error is None:
                taken, error = _take(pieces, rows)
                if taken:
                    yield self._chunk(start, taken)
                elif error is None:
                    return
                start += len(taken)
        raise error

    def _parts(self) -> Generator[bytes]:
        return _printed(self._path) if self._binary else _saved(self._path)

    def _probe(self) -> bytes:
        """Return the text of the first record; refuse a file none of whose first records is a flow."""
        with closing(self._parts()) as parts:
            taken, error = _take(nfdump_json.pieces(parts), _PROBED)
        if not taken:
            raise error or SourceError(f"{self._path}: no flow in the file; {_EXPECTED}, with flows in it")
        chunk = self._chunk(0, taken)
        if not chunk.rows.num_rows:
            why = chunk.rejects[0].detail
            raise SourceError(f"{self._path}: none of its first {chunk.next} records is a flow; {why}")
        if chunk.rows.num_rows == _PROBED and chunk.rows["src_bytes"].equals(chunk.rows["src_packets"]):
            # No IP packet has one byte: the line-wise JSON of some development versions of nfdump 1.7.
            raise SourceError(f"{self._path}: as many bytes as packets in each flow; use another nfdump")
        return taken[0].raw

    def _chunk(self, first: int, pieces: Sequence[Piece]) -> Chunk:
        found = nfdump_json.decoded([piece.raw for piece in pieces])
        good = [i for i, flow in enumerate(found) if isinstance(flow, Flow)]
        flows = [flow for flow in found if isinstance(flow, Flow)]
        block = Block(
            first=first,
            next=first + len(pieces),
            positions=first + np.asarray(good, dtype=np.int64),
            raw=[pieces[i].raw for i in good],
            columns=nfdump_json.cells(flows),
            rejects=tuple(
                self._reject(first + i, pieces[i], *fault)
                for i, fault in enumerate(found)
                if not isinstance(fault, Flow)
            ),
            file=self._path.name,
            lines=None if self._binary else [pieces[i].line for i in good],
        )
        fields = Fields(block)
        sensor = pa.repeat(self._sensor, len(fields))
        columns = {"sensor": sensor, "flow_id": flow_ids(block, self._salt), **nfdump_json.convert(fields)}
        return assembled(block, fields, columns, CONN)

    def _reject(self, position: int, piece: Piece, reason: str, detail: str) -> Reject:
        where = f"record {position}" if self._binary else f"line {piece.line}"
        raw = piece.raw[: nfdump_json.LONGEST_RECORD]
        return Reject(
            position=position, raw=raw, reason=reason, detail=f"{self._path.name} {where}: {detail}"
        )


def _take(pieces: Iterator[Piece], n: int) -> tuple[list[Piece], SourceError | None]:
    """Return the next `n` pieces, or those before an error, and that."""
    taken: list[Piece] = []
    try:
        taken.extend(islice(pieces, n))
    except SourceError as error:
        return taken, error
    return taken, None


def _is_zipped(path: Path) -> bool:
    with readable(path), path.open("rb") as file:
        return not _is_binary(file.read(4))


def _saved(path: Path) -> Generator[bytes]:
    """Yield the text of a file."""
    with readable(path), TextFile(path).open() as stream:
        while part := stream.read(_PART):
            yield part


def _printed(path: Path) -> Generator[bytes]:
    """Yield what the program prints of a binary file, as JSON with times in UTC; it ends when we stop.

    Raises
    ------
    SourceError
        At the end, if the program has failed, complained or gone silent.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise SourceError(
            f"{path}: a binary file of nfdump, and the program nfdump, which reads it, is not installed; "
            "install it (package nfdump), or give what `nfdump -r FILE -o json` prints elsewhere"
        )
    with tempfile.TemporaryFile() as errors:
        process = _started([program, "-r", str(path.resolve()), "-o", "json"], errors)
        try:
            assert process.stdout is not None
            yield from _heard(process.stdout, path)
            _refuse_complaints(path, process.wait(SILENCE_S), errors)
        except subprocess.TimeoutExpired:
            raise _silent(path) from None
        finally:
            process.kill()
            process.communicate()


def _started(command: Sequence[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        )
    except OSError as error:
        raise SourceError(f"{command[0]}: cannot be started ({error.strerror}); install it again") from error


def _heard(output: IO[bytes], path: Path) -> Iterator[bytes]:
    with selectors.DefaultSelector() as ready:
        ready.register(output, selectors.EVENT_READ)
        while ready.select(SILENCE_S):
            part = os.read(output.fileno(), _PART)
            if not part:
                return
            yield part
    raise _silent(path)


def _silent(path: Path) -> SourceError:
    return SourceError(f"{path}: nfdump has said nothing for {SILENCE_S:g} s; check the file with nfdump -v")


def _refuse_complaints(path: Path, code: int, errors: IO[bytes]) -> None:
    """Raise what the program wrote to its standard error: it exits with 0 after many of its errors."""
    errors.seek(0)
    said = " ".join(errors.read(300).decode("utf-8", "replace").split())
    if code or said:
        raise SourceError(
            f"{path}: nfdump could not read all of it ({said or 'no message'}; exit code {code}); "
            "records may be missing: fetch the file again"
        )
