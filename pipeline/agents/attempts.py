"""How many processes died over a message, kept where the next process finds it."""

import os
import re
import secrets
import struct
from pathlib import Path

_RECORD = struct.Struct("<qqqq")
"""Offset of the message in work (-1: none) and the process that works on it; offset of the message
over which the last process died (-1: none), and how many did so in a row."""

_NOTHING = (-1, 0, -1, 0)


class Attempts:
    """Small files, one a lane, that say which message is in work.

    Two small writes a message into the page cache: they outlive the process, not the machine,
    which is enough, as the question is whether the message kills the process. A process that begins
    again may have to repeat messages before the deadly one, whose results were not durable: they do
    not make it forget the deaths.

    Parameters
    ----------
    folder : Path
        Below the worker's state directory; made if absent.
    limit : int
        Deaths after which a message is tried in a child process first.
    """

    def __init__(self, folder: Path, *, limit: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.limit = limit
        self._folder = folder
        self._files: dict[tuple[str, int], int] = {}
        self._me = secrets.randbits(62)

    def close(self) -> None:
        """Close the files; they are opened again where they are needed."""
        while self._files:
            os.close(self._files.popitem()[1])

    def begin(self, topic: str, partition: int, offset: int) -> int:
        """Note that work on a message begins; return how many processes died over it before."""
        suspect, deaths = self._suspect(topic, partition)
        self._write(topic, partition, (offset, self._me, suspect, deaths))
        return deaths if suspect == offset else 0

    def end(self, topic: str, partition: int) -> None:
        """Note that the message in work is done."""
        at, _, suspect, deaths = self._read(topic, partition)
        passed = at >= suspect
        self._write(topic, partition, _NOTHING if passed else (-1, 0, suspect, deaths))

    def _suspect(self, topic: str, partition: int) -> tuple[int, int]:
        """Return over which message processes died, and how many: what one left in work killed it."""
        at, owner, suspect, deaths = self._read(topic, partition)
        if at < 0 or owner == self._me:
            return suspect, deaths
        return at, deaths + 1 if at == suspect else 1

    def _read(self, topic: str, partition: int) -> tuple[int, int, int, int]:
        stored = os.pread(self._file(topic, partition), _RECORD.size, 0)
        if len(stored) != _RECORD.size:
            return _NOTHING
        at, owner, suspect, deaths = _RECORD.unpack(stored)
        return at, owner, suspect, deaths

    def _write(self, topic: str, partition: int, record: tuple[int, int, int, int]) -> None:
        os.pwrite(self._file(topic, partition), _RECORD.pack(*record), 0)

    def _file(self, topic: str, partition: int) -> int:
        key = (topic, partition)
        if key not in self._files:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{topic}-{partition}.attempt")
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._files[key] = os.open(self._folder / name, flags, 0o644)
        return self._files[key]
