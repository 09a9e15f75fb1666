"""The lines of text files, plain or gzipped, whole or still being written to."""

import gzip
import os
import time
import zlib
from collections.abc import Callable, Iterator
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
_READ_BYTES = 1 << 18


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
        raise SourceError(f"{path}: cannot be read to its end ({said}); check or fetch it again") from error


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

    def head(self) -> bytes:
        """Return its first bytes, unpacked, without a byte order mark.

        Raises
        ------
        SourceError
            If it cannot be read.
        """
        with readable(self.path), self.open() as stream:
            return stream.read(HEAD_BYTES).removeprefix(BOM)


class GrowingFile(TextFile):
    """A file that is still written to, until another one takes its place or it is cut.

    It is held open: what happens to its name does not change what is read.
    """

    grows = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with readable(path):
            self._file = path.open("rb", buffering=0)
        self._opening = self._peek()
        self._size = 0
        self._since: float | None = None  # when it was last seen to grow after it was replaced
        self.cut = False  # whether it ended because its content was taken away
        self.modified_ns = 0  # when it was last written to, before it was cut

    def open(self) -> BinaryIO:
        """Open it at its beginning, for reading bytes."""
        self._file.seek(0)
        return open(os.dup(self._file.fileno()), "rb")  # noqa: PTH123 - the file, not its name

    def close(self) -> None:
        """Let it go."""
        self._file.close()

    def more(self) -> bool:
        """Say whether it is still the file that its name leads to, or its writer may not have noticed yet."""
        mine = os.fstat(self._file.fileno())
        self.cut = mine.st_size < self._file.tell() or self._peek() != self._opening
        if self.cut:
            return False
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
        return os.pread(self._file.fileno(), len(getattr(self, "_opening", b"")) or _PEEKED, 0)


class LineReader:
    """The lines of an open file, from its beginning, without their ends.

    Memory is bounded whatever a line holds: of one longer than `LONGEST_LINE`, that many bytes are kept.

    Parameters
    ----------
    stream : file
        Open for reading bytes, at its beginning.
    more : callable, optional
        Asked whenever nothing is left. While it says yes, the reader waits, and what stands behind the
        last line end is no line yet; when it says no, that is the last line.
    """

    def __init__(self, stream: BinaryIO, more: Callable[[], bool] = lambda: False) -> None:
        self._stream = stream
        self._more = more
        self._partial = stream.read(len(BOM)).removeprefix(BOM)

    def batches(self) -> Iterator[list[bytes]]:
        """Yield all lines in batches; an empty one now and then while nothing comes."""
        while True:
            data = self._stream.read(_READ_BYTES)
            if lines := self._lines(data):
                yield lines
            elif data:
                continue
            elif self._more():
                yield []
                time.sleep(IDLE_S)
            else:
                break
        if self._partial:
            yield [self._partial]

    def _lines(self, data: bytes) -> list[bytes]:
        first, *others = data.split(b"\n")
        self._partial += first[: LONGEST_LINE - len(self._partial)]
        if not others:
            return []
        lines = [self._partial, *others]
        self._partial = lines.pop()[:LONGEST_LINE]
        return [line[:LONGEST_LINE].removesuffix(b"\r") for line in lines]
