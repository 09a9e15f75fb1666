"""A log that is still written to, across its rotations: as `tail -F`, but without losing a line."""

import glob
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from connectors.base import Source
from connectors.errors import NotYetError, SourceError
from connectors.lines import IDLE_S, GrowingFile, TextFile

log = structlog.get_logger()

Open = Callable[[TextFile], Source]
"""Opens one file of the log; raises SourceError where it is none."""

Known = Callable[[str], bool]
"""Says of a source's id whether it was read before."""


class Followed:
    """The files of a log, one after another: those that it was rotated to, then the one being written.

    Renamed (`conn.log` to `conn.2026-01-05.log`, packed or not), copied and cut, removed and made anew:
    each file is read to its end before the next one. A reader that was restarted goes on in the newest
    file that it knows, whatever its name is by now, as long as a pattern finds it.

    Parameters
    ----------
    path : Path
        The file that is being written to; it need not be there yet.
    opened : callable
        Opens one file of the log; the ids of its sources come from content.
    rotated : str, optional
        Pattern, as `/logs/*/conn.*.log.gz`, of the files that it is rotated to. Default: its
        siblings, as `conn.*.log*`, `conn.log?*` and `conn-*.log*`.
    """

    def __init__(self, path: Path, opened: Open, *, rotated: str | None = None) -> None:
        self._path = path
        self._open = opened
        self._pattern = rotated
        self._done: set[str] = set()  # ids of files that were read to their end

    def sources(self, known: Known) -> Iterator[Source | None]:
        """Yield each file as a source, which ends when the file is over; None while there is none.

        The first start reads the file that is being written to, from its beginning, and none before it.
        """
        yield from self._read(self._backlog(known))
        while True:
            if self._path.is_file():
                yield from self._follow(GrowingFile(self._path))
            yield None
            time.sleep(IDLE_S)

    def _follow(self, file: GrowingFile) -> Iterator[Source]:
        """Yield the file being written to, and then those that were written between it and its successor."""
        try:
            source = self._open(file)
            if source.source_id not in self._done:
                yield source
                yield from self._read(self._behind(file, source.source_id))
        except NotYetError:
            pass  # it holds no record yet
        finally:
            file.close()

    def _read(self, sources: list[Source]) -> Iterator[Source]:
        for source in sources:
            if source.source_id not in self._done:
                yield source
                self._done.add(source.source_id)

    def _backlog(self, known: Known) -> list[Source]:
        """Return the rotated files from the newest one that was read before on; files are read in order."""
        with suppress(SourceError):
            if known(self._open(TextFile(self._path)).source_id):
                return []
        found: list[Source] = []
        for source in self._rotated(newest_first=True):
            found.insert(0, source)
            if known(source.source_id):
                return found
        return []

    def _behind(self, file: GrowingFile, source_id: str) -> list[Source]:
        """Return the files between one that is over and the one being written to.

        Of one that was cut, the rest stands in a copy.
        """
        found = list(self._rotated(since_ns=file.modified_ns))
        if not file.cut:
            self._done.add(source_id)
        elif all(source.source_id != source_id for source in found):
            log.warning("log_cut", path=str(self._path), detail="no copy found: its last lines may be lost")
        return found

    def _rotated(self, *, since_ns: int = 0, newest_first: bool = False) -> Iterator[Source]:
        """Yield the rotated files that are of this log, in order of their last change."""
        dated = [(path.stat().st_mtime_ns, path) for path in self._candidates()]
        for modified_ns, path in sorted(dated, reverse=newest_first):
            with suppress(SourceError):  # another log of a similar name, or one that is being packed
                if modified_ns >= since_ns:
                    yield self._open(TextFile(path))

    def _candidates(self) -> Iterator[Path]:
        if self._pattern:
            names = glob.iglob(self._pattern, recursive=True)  # noqa: PTH207 - takes absolute patterns
            found = (Path(name) for name in names)
        else:
            found = (path for path in self._path.parent.glob(f"{glob.escape(self._path.stem)}[.-]*"))
        return (path for path in found if path != self._path and path.is_file())
