"""How many processes died over a message, kept where the next process finds it."""

import os
import re
import struct
from pathlib import Path

_RECORD = struct.Struct("<qq")
"""Offset of the message in work, and how many processes have begun it; -1 when none is."""


class Attempts:
    """Small files, one a lane, that say which message is in work.

    Two small writes a message into the page cache: they outlive the process, not the machine,
    which is enough, as the question is whether the message kills the process.

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

    def begin(self, topic: str, partition: int, offset: int) -> int:
        """Note that work on a message begins; return how many processes died over it before."""
        file = self._file(topic, partition)
        stored = os.pread(file, _RECORD.size, 0)
        at, begun = _RECORD.unpack(stored) if len(stored) == _RECORD.size else (-1, 0)
        deaths = begun if at == offset else 0
        os.pwrite(file, _RECORD.pack(offset, deaths + 1), 0)
        return deaths

    def end(self, topic: str, partition: int) -> None:
        """Note that the message in work is done."""
        os.pwrite(self._file(topic, partition), _RECORD.pack(-1, 0), 0)

    def _file(self, topic: str, partition: int) -> int:
        key = (topic, partition)
        if key not in self._files:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{topic}-{partition}.attempt")
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._files[key] = os.open(self._folder / name, flags, 0o644)
        return self._files[key]
