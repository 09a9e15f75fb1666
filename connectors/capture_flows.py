"""The flows of a capture as the meter's process gives them, in order, from any one on."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from connectors import capture_meter
from connectors.child import tied
from connectors.errors import SourceError

_TYPES = {"Q": "<u8", "H": "<u2", "B": "u1", "16s": "V16", "40s": "S40"}
FLOW = np.dtype([(name, _TYPES[code]) for name, code in capture_meter.FIELDS])
"""A flow, in the words of `capture_meter.FIELDS`."""

Flows = npt.NDArray[np.void]


@contextmanager
def metering_of(path: Path, limits: tuple[int, int, int]) -> Iterator["Metering"]:
    """Have a capture metered by a process that ends with the block, however one leaves it.

    Parameters
    ----------
    path : Path
        The capture.
    limits : tuple of int
        Idle and active timeout, ms, and the number of flows kept at a time.

    Raises
    ------
    SourceError
        If the capture cannot be opened.
    """
    # Not `-m`: the meter needs nothing of ours, and starts in a third of the time without it.
    command = [sys.executable, "-P", capture_meter.__file__, *map(str, limits)]
    with _opened(path) as file, tempfile.TemporaryFile() as noise:
        process = subprocess.Popen(
            tied(command),
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=noise,
            start_new_session=True,  # Ctrl-C reaches us alone
        )
        with process:
            try:
                yield Metering(path, process, noise)
            finally:
                process.kill()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error


class Metering:
    """The meter at work on one capture; made by `metering_of`.

    Attributes
    ----------
    n_flows : int
        Flows so far, those that were skipped included.
    packets, left_out, unreadable : int
        Packets of the capture, those in no flow, and the ones among them with IP but without whole headers;
        known at the end, like what follows.
    first_unreadable : bytes
        The first of those, from its IP header on.
    broken : bool
        Whether the capture breaks off.
    """

    def __init__(self, path: Path, process: subprocess.Popen[bytes], noise: IO[bytes]) -> None:
        self.n_flows = self.packets = self.left_out = self.unreadable = 0
        self.first_unreadable = b""
        self.broken = False
        self._path, self._process, self._noise = path, process, noise
        self._output = cast("IO[bytes]", process.stdout)

    def blocks(self, start: int, rows: int) -> Iterator[Flows]:
        """Yield the flows from number `start` on, `rows` at a time, fewer at the end.

        Raises
        ------
        SourceError
            If the meter cannot read the capture, or dies of it.
        """
        kept: list[Flows] = []
        for flows in self._messages():
            skipped = max(0, start - self.n_flows)
            self.n_flows += len(flows)
            kept.append(flows[skipped:])
            if sum(map(len, kept)) >= rows:
                *whole, rest = _split(np.concatenate(kept), rows)
                yield from whole
                kept = [rest]
        yield from (block for block in _split(np.concatenate([*kept, _NONE]), rows) if len(block))

    def _messages(self) -> Iterator[Flows]:
        message = capture_meter.MESSAGE
        while len(header := self._output.read(message.size)) == message.size:
            kind, size = message.unpack(header)
            content = self._output.read(size)
            if len(content) < size:
                break
            if kind == capture_meter.END:
                self._end(json.loads(content))
                return
            yield np.frombuffer(content, FLOW)
        raise SourceError(f"{self._path}: {self._cause_of_death()}")

    def _end(self, summary: dict[str, int | str]) -> None:
        if "error" in summary:
            raise SourceError(f"{self._path}: {summary['error']}, expected a capture; fetch it again")
        self.packets, self.left_out = int(summary["packets"]), int(summary["left_out"])
        self.unreadable = int(summary["unreadable"])
        self.first_unreadable = bytes.fromhex(str(summary["first_unreadable"]))
        self.broken = bool(summary["broken"])

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        self._noise.seek(0)
        said = self._noise.read().decode(errors="replace").strip().splitlines()
        return (
            f"the process that takes packets apart ended with code {code} behind flow {self.n_flows} "
            f"({said[-1] if said else 'without a word'}); leave out its packets from there on (editcap)"
        )


_NONE: Flows = np.empty(0, FLOW)


def _split(flows: Flows, rows: int) -> list[Flows]:
    """Return pieces of `rows` flows, and a last one of fewer, which may be empty."""
    return [flows[at : at + rows] for at in range(0, len(flows) + 1, rows)]
