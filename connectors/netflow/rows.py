"""The records of data sets: cut apart, and their fields as numpy columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from connectors.netflow.templates import DST_V4, DST_V6, SRC_V4, SRC_V6, VARIABLE, Key, Template

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The records of one data set, in the fixed layout of their template."""

    rows: bytes  # n records of `template.size` bytes
    n: int
    raws: tuple[bytes, ...] | None  # the records as they stood, where that is another form
    rest: bytes  # what is left behind the last whole record


def cut(template: Template, body: bytes) -> Records:
    """Return the records of a data set's body."""
    if template.is_variable:
        return _walk(template, body)
    n = len(body) // template.size
    end = n * template.size
    return Records(rows=body[:end], n=n, raws=None, rest=body[end:])


def _walk(template: Template, body: bytes) -> Records:
    parts: list[bytes] = []
    raws: list[bytes] = []
    at = 0
    while len(body) - at >= template.least:
        part, end = _record(template.runs, body, at)
        if end > len(body):
            break
        parts.append(part)
        raws.append(body[at:end])
        at = end
    return Records(rows=b"".join(parts), n=len(raws), raws=tuple(raws), rest=body[at:])


def _record(runs: tuple[tuple[int, int], ...], body: bytes, at: int) -> tuple[bytes, int]:
    """Return the record at `at` in the fixed layout, and where it ends."""
    parts = []
    for size, kept in runs:
        if size == VARIABLE:
            size, at = _length(body, at)  # noqa: PLW2901 (a run of variable size gets its own)
        parts.append(body[at : at + min(size, kept)].ljust(kept, b"\0"))
        at += size
    return b"".join(parts), at


def _length(body: bytes, at: int) -> tuple[int, int]:
    """Return the length of a variable field, in one byte or behind 255 in two, and where it begins."""
    if body[at : at + 1] == b"\xff":
        return int.from_bytes(body[at + 1 : at + 3], "big"), at + 3
    return int.from_bytes(body[at : at + 1], "big"), at + 1


class View:
    """The fields of many records of one template, by column."""

    def __init__(self, template: Template, rows: bytes) -> None:
        self.template = template
        self.n = len(rows) // template.size
        self._matrix: Bytes = np.frombuffer(rows, np.uint8).reshape(self.n, template.size)

    def bytes(self, key: Key) -> Bytes | None:
        """Return the bytes of a field, shape (n, size), or None if records have no such field."""
        place = self.template.places.get(key)
        return None if place is None else self._matrix[:, place]

    def number(self, *keys: Key) -> Ints | None:
        """Return the first of some elements that records have, shape (n,), or None.

        Encodings of 1 to 8 bytes are read alike (reduced-size encoding). Numbers of 2^63 or more
        come out negative, which no check lets pass.
        """
        for key in keys:
            field = self.bytes(key)
            if field is not None and field.shape[1] <= 8:
                return _unsigned(field)
        return None

    def addresses(self) -> tuple[Bytes, Bytes]:
        """Return originators and responders as 16 bytes each, shape (n, 16).

        Where records have fields of both families, one of them is zero: IPv6 counts where IPv4 is.
        """
        v4 = [_mapped(self._matrix[:, self.template.places[key]]) for key in self._pair(v6=False)]
        v6 = [self._matrix[:, self.template.places[key]] for key in self._pair(v6=True)]
        if not (v4 and v6):
            source, destination = v4 or v6
            return source, destination
        no_v4 = ~np.hstack([v4[0][:, 12:], v4[1][:, 12:]]).any(axis=1, keepdims=True)
        return np.where(no_v4, v6[0], v4[0]), np.where(no_v4, v6[1], v4[1])

    def _pair(self, *, v6: bool) -> tuple[Key, ...]:
        if v6:
            return (SRC_V6, DST_V6) if self.template.has_v6 else ()
        return (SRC_V4, DST_V4) if self.template.has_v4 else ()


def _mapped(v4: Bytes) -> Bytes:
    out = np.zeros((len(v4), 16), np.uint8)
    out[:, 10:12] = 255
    out[:, 12:] = v4
    return out


def _unsigned(field: Bytes) -> Ints:
    n, size = field.shape
    padded = np.zeros((n, 8), np.uint8)
    padded[:, 8 - size :] = field
    return padded.view(">i8").reshape(n).astype(np.int64)
