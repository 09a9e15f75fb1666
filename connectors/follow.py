"""A log that is still written to, across its rotations: as `tail -F`, but without losing a line."""

import glob
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import structlog

from connectors.base import Source
from connectors.errors import NotYetError, SourceError
from connectors.lines import GrowingFile, HeldFile, TextFile, changed_just_now

log = structlog.get_logger()

LOOK_S = 1.0
"""How long a reader waits between two looks for a file that is not there yet."""

_SECOND_NS = 1_000_000_000

Open = Callable[[TextFile], Source]
"""Opens one file of the log; raises SourceError where it is none."""

Known = Callable[[str], bool]
"""Says of a source's id whether it was read before."""

Found = tuple[HeldFile, Source]
Dated = tuple[int, Path]
"""When a file was last changed, ns since 1970, and its path."""


class Followed:
    """The files of a log, one after another: those that it was rotated to, then the one being written.

    Renamed (`conn.log` to `conn.2026-01-05.log`, packed or not), copied and cut, removed and made anew:
    each file is read to its end before the next one. A reader that was restarted goes on in the newest
    files that it knows, whatever their names are by now, as long as a pattern finds them.

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
        self._since_ns = 0  # files that were last written to before this are read, or were never wanted
        self._done: set[str] = set()  # ids of files that were read to their end

    def sources(self, known: Known) -> Iterator[Source | None]:
        """Yield each file as a source, which ends when the file is over; None while there is none.

        The first start reads the file that is being written to, from its beginning, and none before it.

        Raises
        ------
        SourceError
            If the file that is being written to cannot be read, or is no such log.
        """
        self._since_ns = self._beginning(known)
        while True:
            if found := self._next():
                file, source = found
                try:
                    yield source
                    self._finish(file, source.source_id)
                finally:
                    file.close()
            else:
                yield None
                time.sleep(LOOK_S)

    def _beginning(self, known: Known) -> int:
        """Return the last change of the oldest file that may hold what was not read."""
        if current := self._written_to():
            file, source = current
            file.close()
            if known(source.source_id):  # so all before it were read
                return file.modified_ns
        dated = sorted(self._dated(), reverse=True)
        known_ones = (modified_ns for modified_ns, path in dated if self._is(path, known))
        # Packing may date a file behind its successor: the newest known one need not be the last one read.
        if seen := list(islice(known_ones, 2)):
            return seen[-1]
        # The first start. What is being packed cannot be asked yet, and would be lost if it was known.
        return max((dated[0] + 1 for dated in dated if not _is_being_packed(*dated)), default=0)

    def _next(self) -> Found | None:
        """Return the oldest file that was not read: one that the log was rotated to, else the log itself."""
        # Opened before the others are looked at: what it is rotated to from now on is this very file.
        current = self._written_to()
        candidates = self._candidates()
        packing = any(_is_being_packed(*candidate) for candidate in candidates)
        chosen = None if packing else self._earlier(candidates, current) or current
        if current and current is not chosen:
            current[0].close()
        if chosen and chosen[1].source_id in self._done:
            chosen[0].close()
            return None
        return chosen

    def _earlier(self, candidates: Iterable[Dated], current: Found | None) -> Found | None:
        """Return the oldest file that was not read among those that the log was rotated to."""
        others = {*self._done, *([current[1].source_id] if current else [])}
        for _, path in candidates:
            if found := self._rotated(path):
                if found[1].source_id not in others:
                    return found
                found[0].close()
        return None

    def _candidates(self) -> list[Dated]:
        """Return the files that may hold what was not read, the oldest first."""
        return sorted(dated for dated in self._dated() if _is_since(dated[0], self._since_ns))

    def _is(self, path: Path, known: Known) -> bool:
        """Say whether a file is one of the log, and known."""
        if found := self._rotated(path):
            found[0].close()
            return known(found[1].source_id)
        return False

    def _finish(self, file: HeldFile, source_id: str) -> None:
        """Note that a file is over; of one that was cut, the rest stands in a copy."""
        self._since_ns = file.modified_ns
        if not (isinstance(file, GrowingFile) and file.was_cut):
            self._done.add(source_id)
        elif not any(self._is(path, source_id.__eq__) for _, path in self._candidates()):
            log.warning("log_cut", path=str(self._path), detail="no copy found: its last lines may be lost")

    def _written_to(self) -> Found | None:
        """Open the log itself, if it is there and holds a record."""
        try:
            file = GrowingFile(self._path)
        except SourceError:
            if self._path.exists():
                raise
            return None
        try:
            return file, self._open(file)
        except SourceError as error:
            file.close()
            if isinstance(error, NotYetError):
                return None
            raise

    def _rotated(self, path: Path) -> Found | None:
        """Open a file that the log may have been rotated to; None where it is another log."""
        with suppress(SourceError):
            file = HeldFile(path)
            try:
                return file, self._open(file)
            except SourceError:
                file.close()
        return None

    def _dated(self) -> Iterator[Dated]:
        """Yield the files that the log may have been rotated to, with the time of their last change."""
        if self._pattern:
            names = glob.iglob(self._pattern, recursive=True)  # noqa: PTH207 - takes absolute patterns
            found = (Path(name) for name in names)
        else:
            found = self._path.parent.glob(f"{glob.escape(self._path.stem)}[.-]*")
        for path in found:
            with suppress(OSError):
                if path != self._path and path.is_file():
                    yield path.stat().st_mtime_ns, path


def _is_being_packed(modified_ns: int, path: Path) -> bool:
    return path.suffix == ".gz" and changed_just_now(modified_ns)


def _is_since(modified_ns: int, since_ns: int) -> bool:
    """Say whether a file was changed at or after a time; what packs or copies may cut the time's fraction."""
    return modified_ns >= (since_ns if modified_ns % _SECOND_NS else since_ns - since_ns % _SECOND_NS)
