"""The lines of text files, plain or gzipped, whole or still being written to."""

import gzip
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from connectors.errors import SourceError

LONGEST_LINE = 65_536
"""Bytes; a longer line is no record, and only its beginning is kept."""
HEAD_BYTES = 65_536
"""Bytes at the beginning of a file that tell what it is."""
IDLE_S = 0.2
"""How long a reader of a file that is still written to waits before it looks again."""

BOM = b"\xef\xbb\xbf"
QUIET_S = 1.0
"""A file that was replaced is over when nothing more came for so long: its writer may lag behind."""
_PEEKED = 256  # bytes that tell whether a file still begins as it did
_GZIP = b"\x1f\x8b"
_READ_BYTES = 1 << 16
_BATCH_BYTES = 1 << 20  # small batches cost more time, and large ones memory


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what opening or reading a broken file raises into a sentence.

    Raises
    ------
    SourceError
        In place of every error of the operating system or of gzip.
    """
    try:
        yield
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; give the path of a file of flows") from None
    except (OSError, EOFError, zlib.error) as error:
        said = " ".join(str(error).split())
        raise SourceError(f"{path}: cannot be read to its end ({said}); fetch it again") from error


class TextFile:
    """A text file, plain or gzipped, that ends where it ends."""

    grows = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> BinaryIO:
        """Open it at its beginning, for reading bytes, unpacked."""
        with self.path.open("rb") as file:
            zipped = file.read(len(_GZIP)) == _GZIP
        return cast("BinaryIO", gzip.open(self.path, "rb") if zipped else self.path.open("rb"))

    def more(self) -> bool:
        """Say, at the end of what it holds, whether more may still come."""
        return False

    def cut(self) -> bool:
        """Say whether what was read last may be of another content than what was read before."""
        return False

    def head(self) -> bytes:
        """Return its first bytes, unpacked, without a byte order mark.

        Raises
        ------
        SourceError
            If it cannot be read.
        """
        with readable(self.path), self.open() as stream:
            return stream.read(HEAD_BYTES).removeprefix(BOM)


class HeldFile(TextFile):
    """A text file that is held open: what happens to its name does not change what is read.

    Its writer may lag behind its rotation, so it ends when nothing was written to it for `QUIET_S`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with readable(path):
            self._file = path.open("rb", buffering=0)
        self.is_packed = os.pread(self._file.fileno(), len(_GZIP), 0) == _GZIP
        self.modified_ns = os.fstat(self._file.fileno()).st_mtime_ns
        """When it was last written to, as far as is known."""

    def open(self) -> BinaryIO:
        """Open it at its beginning, for reading bytes, unpacked if it is packed."""
        self._file.seek(0)
        copy = os.dup(self._file.fileno())
        if not self.is_packed:
            return open(copy, "rb")  # noqa: PTH123 - the file, not its name
        packed = open(copy, "rb", buffering=0)  # noqa: PTH123, SIM115 - closed with what reads it
        stream = gzip.GzipFile(fileobj=packed)
        stream.myfileobj = packed
        return cast("BinaryIO", stream)

    def close(self) -> None:
        """Let it go."""
        self._file.close()

    def more(self) -> bool:
        """Say whether it was written to just now."""
        self.modified_ns = os.fstat(self._file.fileno()).st_mtime_ns
        return not self.is_packed and changed_just_now(self.modified_ns)


def changed_just_now(modified_ns: int) -> bool:
    """Say whether a file that was modified then may still be in the hands of its writer."""
    return abs(time.time_ns() - modified_ns) < QUIET_S * 1e9


class GrowingFile(HeldFile):
    """A file that is still written to, until another one takes its place or it is cut."""

    grows = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_packed = False  # what grows is text
        self._opening = b""
        self._size = 0
        self._since: float | None = None  # when it was last seen to grow after it was replaced
        self.was_cut = False

    def head(self) -> bytes:
        """Return its first bytes; what is read afterwards belongs to them until it is cut."""
        head = super().head()
        self._opening = self._peek()
        return head

    def cut(self) -> bool:
        """Say whether its content was taken away, or another one put in its place."""
        size = os.fstat(self._file.fileno()).st_size
        self.was_cut = size < self._file.tell() or not self._peek().startswith(self._opening)
        return self.was_cut

    def more(self) -> bool:
        """Say whether it is still the file that its name leads to, or its writer may not have noticed yet."""
        mine = os.fstat(self._file.fileno())
        if self.cut():  # asked behind the time, which else may be that of other content
            return True
        self.modified_ns = mine.st_mtime_ns
        if self._is_in_place(mine):
            return True
        now = time.monotonic()
        if self._since is None or mine.st_size != self._size:
            self._since, self._size = now, mine.st_size
        return now - self._since < QUIET_S

    def _is_in_place(self, mine: os.stat_result) -> bool:
        """Return whether no other file has its name; one that was only removed may be made anew."""
        try:
            return os.path.samestat(self.path.stat(), mine)
        except OSError:
            return True

    def _peek(self) -> bytes:
        return os.pread(self._file.fileno(), _PEEKED, 0)


class LineReader:
    """The lines of an open file, from its beginning, without their ends.

    Memory is bounded whatever a line holds: of one longer than `LONGEST_LINE`, that many bytes are kept.

    Parameters
    ----------
    stream : file
        Open for reading bytes, at its beginning.
    file : TextFile
        Asked whenever nothing is left. While there may be more, the reader waits, and what stands behind
        the last line end is no line yet; then that is the last line. Of a file that was cut nothing more
        is read, and no line that had only begun: the whole one stands in a copy.
    """

    def __init__(self, stream: BinaryIO, file: TextFile) -> None:
        self._stream = stream
        self._file = file
        self._begun = stream.read(len(BOM)).removeprefix(BOM)
        self._partial = b""

    def batches(self, rows: int) -> Iterator[list[bytes]]:
        """Yield all lines, at most `rows` at a time; none of them now and then while nothing comes."""
        lines: list[bytes] = []
        size = 0
        while True:
            data = self._begun + self._stream.read(_READ_BYTES)
            self._begun = b""
            if self._file.cut():  # asked behind the reading: this may be of the content that took its place
                break
            lines += self._lines(data)
            size += len(data)
            while len(lines) >= rows or (lines and (not data or size >= _BATCH_BYTES)):
                yield lines[:rows]
                lines, size = lines[rows:], 0
            if data:
                continue
            if not self._file.more():
                lines = [self._partial.removesuffix(b"\r")] if self._partial else []
                break
            yield []
            time.sleep(IDLE_S)
        if lines:
            yield lines

    def _lines(self, data: bytes) -> list[bytes]:
        first, *others = data.split(b"\n")
        self._partial += first[: LONGEST_LINE - len(self._partial)]
        if not others:
            return []
        lines = [self._partial, *others]
        self._partial = lines.pop()[:LONGEST_LINE]
        return [line[:LONGEST_LINE].removesuffix(b"\r") for line in lines]
