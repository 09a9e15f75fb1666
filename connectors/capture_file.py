"""What a capture file says of itself: pcap or pcapng, its first packet, and where it breaks off."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Protocol, cast

from connectors.errors import SourceError

ABOUT = "a capture in pcap or pcapng form, as tcpdump and Wireshark write them"

LINK_TYPES = {
    0: "BSD loopback",
    1: "Ethernet",
    9: "PPP",
    50: "PPP over serial lines",
    101: "IP alone",
    104: "Cisco HDLC",
    113: "Linux cooked",
    127: "radiotap",
    228: "IPv4 alone",
    229: "IPv6 alone",
}
"""The frames that the meter can take apart, by their number at tcpdump.org/linktypes.html."""

_PCAP = {  # magic number -> byte order, bytes of a packet's header
    b"\xd4\xc3\xb2\xa1": ("<", 16),
    b"\xa1\xb2\xc3\xd4": (">", 16),
    b"\x4d\x3c\xb2\xa1": ("<", 16),  # nanoseconds
    b"\xa1\xb2\x3c\x4d": (">", 16),
    b"\x34\xcd\xb2\xa1": ("<", 24),  # Kuznetzov's patched tcpdump
    b"\xa1\xb2\xcd\x34": (">", 24),
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _PACKET_BLOCKS = 1, (2, 3, 6)
_LARGEST_PACKET = 262_144  # bytes; libpcap reads no longer ones
_LARGEST_BLOCK = 16 << 20
_LONGEST_RAW = 65_536  # bytes of a broken piece that are kept
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A packet, or a block about something else, as it stands in the file."""

    offset: int  # in the unpacked file
    raw: bytes
    whole: bool  # all of its bytes are there
    possible: bool  # the length that it states can be true
    is_packet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The beginning of a capture."""

    link_type: int
    snap_bytes: int  # longer packets were cut to this length when captured; 0: no limit
    first: bytes  # the first packet with its header


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where and how a capture breaks off."""

    reason: str
    detail: str
    raw: bytes


class _Form(Protocol):
    """How the pieces of one form of capture follow each other."""

    link_type: int | None
    snap_bytes: int

    def pieces(self) -> Iterator[Piece]:
        """Yield them in order; the last one may not be whole."""
        ...


def recognises(head: bytes) -> bool:
    """Say whether a file begins as a capture does: pcap of version 2, or pcapng."""
    if head[:4] in _PCAP:
        order, _ = _PCAP[head[:4]]
        return len(head) >= 24 and Struct(order + "H").unpack_from(head, 4) == (2,)
    return head[:4] == _SECTION and head[8:12] in _ORDERS


def opening(path: Path) -> Opening:
    """Read a capture up to its first packet.

    Raises
    ------
    SourceError
        If the file is missing, no capture, holds no whole packet, or has frames of a kind that the
        meter cannot take apart.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file; expected {ABOUT}")
    try:
        with _unpacked(path) as stream:
            return _opening(path, stream)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error


def _opening(path: Path, stream: BinaryIO) -> Opening:
    form = _form(path, stream)
    first = next((piece for piece in form.pieces() if piece.is_packet or not piece.whole), None)
    if first is None:
        raise SourceError(f"{path}: no packet in the capture, expected at least one")
    if not first.whole or form.link_type is None:
        raise SourceError(
            f"{path}: broken before its first packet ends, at byte {first.offset}; fetch it again"
        )
    if form.link_type not in LINK_TYPES:
        raise SourceError(
            f"{path}: frames of link type {form.link_type}, expected one of "
            f"{', '.join(f'{number} ({name})' for number, name in LINK_TYPES.items())}; capture on one "
            f"interface instead of `any`, or with tcpdump -y LINUX_SLL"
        )
    return Opening(link_type=form.link_type, snap_bytes=form.snap_bytes, first=first.raw)


def broken_at(path: Path, n_packets: int) -> Break:
    """Return what stands behind the last packet of a capture that could be read.

    Parameters
    ----------
    path : Path
        The capture.
    n_packets : int
        How many packets could be read.
    """
    with _unpacked(path) as stream:
        piece = _behind(_form(path, stream).pieces(), n_packets)
    if piece is None:
        detail = f"the packed file breaks off behind packet {n_packets}"
        return Break(reason="truncated_capture", detail=detail, raw=_last_bytes(path))
    where, raw = f"packet {n_packets + 1} at byte {piece.offset}", piece.raw[:_LONGEST_RAW]
    if not piece.possible:
        detail = f"{where} has a length that cannot be; neither it nor what follows can be read"
        return Break(reason="damaged_capture", detail=detail, raw=raw)
    if not piece.whole:
        detail = f"{where} breaks off after {len(piece.raw)} bytes; flows may miss their last packets"
        return Break(reason="truncated_capture", detail=detail, raw=raw)
    detail = f"{where} is damaged or of another link type than the first; nor can what follows be read"
    return Break(reason="damaged_capture", detail=detail, raw=raw)


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read()


def _behind(pieces: Iterator[Piece], n_packets: int) -> Piece | None:
    """Return the first packet behind `n_packets`, or a piece before it that is not whole."""
    seen = 0
    for piece in pieces:
        if not piece.whole or (piece.is_packet and seen == n_packets):
            return piece
        seen += piece.is_packet
    return None


def is_gzip(path: Path) -> bool:
    """Say whether a file is packed with gzip."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def _unpacked(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if is_gzip(path) else path.open("rb")


def _take(stream: BinaryIO, n_bytes: int) -> bytes:
    """Return the next bytes, fewer where the file ends; a packed file that is broken ends there."""
    taken = bytearray()
    try:
        while part := cast("gzip.GzipFile", stream).read1(n_bytes - len(taken)):
            taken += part
    except (EOFError, zlib.error, gzip.BadGzipFile):
        pass
    return bytes(taken)


def _form(path: Path, stream: BinaryIO) -> _Form:
    head = _take(stream, 24)
    if not head:
        raise SourceError(f"{path}: the file is empty, expected {ABOUT}")
    if not recognises(head):
        raise SourceError(f"{path}: begins with {head[:8]!r}, expected {ABOUT}")
    return _Pcap(stream, head) if head[:4] in _PCAP else _PcapNg(stream, head)


class _Pcap:
    """A header of 24 bytes, then packets, each behind a header with its length."""

    def __init__(self, stream: BinaryIO, head: bytes) -> None:
        self._stream = stream
        order, self._header = _PCAP[head[:4]]
        self._length = Struct(order + "I")
        self.snap_bytes, link_type = Struct(order + "II").unpack_from(head, 16)
        # The upper bits tell of checksums at the end of frames.
        self.link_type: int | None = link_type & 0x03FF_FFFF

    def pieces(self) -> Iterator[Piece]:
        """Yield the packets in order; the last one may not be whole."""
        offset, whole = 24, True
        while whole and (header := _take(self._stream, self._header)):
            size = self._length.unpack_from(header, 8)[0] if len(header) == self._header else 0
            possible = size <= _LARGEST_PACKET
            raw = header + _take(self._stream, min(size, _LARGEST_PACKET))
            whole = len(raw) == self._header + size
            yield Piece(offset=offset, raw=raw, whole=whole, possible=possible, is_packet=True)
            offset += len(raw)


class _PcapNg:
    """Blocks of many kinds, each between two statements of its length."""

    def __init__(self, stream: BinaryIO, head: bytes) -> None:
        self._stream = stream
        self._ahead = head
        self._order = _ORDERS[head[8:12]]
        self.link_type: int | None = None
        self.snap_bytes = 0

    def pieces(self) -> Iterator[Piece]:
        """Yield the blocks in order; the last one may not be whole."""
        offset, whole = 0, True
        while whole and (raw := self._read(12)):
            if raw[:4] == _SECTION and raw[8:12] in _ORDERS:
                self._order = _ORDERS[raw[8:12]]
            kind, size = Struct(self._order + "II").unpack(raw[:8]) if len(raw) == 12 else (0, 12)
            possible = 12 <= size <= _LARGEST_BLOCK and size % 4 == 0
            raw += self._read(size - 12 if possible else 0)
            whole = possible and len(raw) == size
            self._note(kind, raw)
            is_packet = kind in _PACKET_BLOCKS
            yield Piece(offset=offset, raw=raw, whole=whole, possible=possible, is_packet=is_packet)
            offset += len(raw)

    def _read(self, n_bytes: int) -> bytes:
        ahead, self._ahead = self._ahead[:n_bytes], self._ahead[n_bytes:]
        return ahead + _take(self._stream, n_bytes - len(ahead))

    def _note(self, kind: int, raw: bytes) -> None:
        if kind == _INTERFACE and self.link_type is None and len(raw) >= 16:
            self.link_type, _, self.snap_bytes = Struct(self._order + "HHI").unpack_from(raw, 8)
