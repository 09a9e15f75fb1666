"""The headers of NetFlow v5, v9 and IPFIX datagrams, and the sets in them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from connectors.netflow.templates import V5_SIZE, V5_TEMPLATE

V5, V9, IPFIX = 5, 9, 10

_V5 = struct.Struct("!HHIIIIBBH")
_V9 = struct.Struct("!HHIIII")
_IPFIX = struct.Struct("!HHIII")
_SET = struct.Struct("!HH")
_HEADER_SIZES = {V5: _V5.size, V9: _V9.size, IPFIX: _IPFIX.size}

V5_MOST = 1364
"""Records of 48 bytes that fit into the longest UDP payload; routers send at most 30."""

_EARLIEST_S = 631_152_000  # 1990: no exporter is older; clocks that were never set begin at 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Bytes of a datagram that cannot be read, and why."""

    raw: bytes
    reason: str
    detail: str


@dataclass(slots=True, kw_only=True)
class Message:
    """One export message: what its header says, and the bodies of its sets in order."""

    version: int
    head: bytes
    domain: int  # observation domain, source id or engine
    sequence: int
    export_us: int  # when it was sent, UTC
    uptime_ms: int | None  # milliseconds since the exporter started; IPFIX does not say
    interval: int = 1  # packets for each one looked at, where the header says so
    sets: list[tuple[int, bytes]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def recognises(head: bytes) -> bool:
    """Say whether a file begins as an export datagram: version, counts, lengths and times fit.

    Examples
    --------
    >>> recognises(struct.pack("!HHIIIIBBH", 5, 1, 9, 1_500_000_000, 0, 7, 0, 0, 0) + bytes(48))
    True
    >>> recognises(b"no datagram")
    False
    """
    version = int.from_bytes(head[:2], "big")
    if version not in _HEADER_SIZES or len(head) < _HEADER_SIZES[version]:
        return False
    if version == V5:
        _, count, _, seconds, *_ = _V5.unpack_from(head)
        return bool(0 < count <= (len(head) - _V5.size) // V5_SIZE and seconds >= _EARLIEST_S)
    if version == V9:
        _, count, _, seconds, *_ = _V9.unpack_from(head)
        return bool(count) and seconds >= _EARLIEST_S and _begins_as_set(head[_V9.size :], 0)
    _, length, seconds, *_ = _IPFIX.unpack_from(head)
    if not _IPFIX.size <= length <= len(head) or seconds < _EARLIEST_S:
        return False
    return _begins_as_set(head[_IPFIX.size : length], 2)


def _begins_as_set(body: bytes, first_id: int) -> bool:
    if len(body) < _SET.size:
        return False
    set_id, length = _SET.unpack_from(body)
    return set_id in (first_id, first_id + 1, *range(256, 65_536)) and _SET.size <= length <= len(body)


def read(payload: bytes) -> Iterator[Message | Fault]:
    """Yield the message of a datagram; IPFIX and v5 say their lengths, so several may follow each other.

    Bytes behind a message that are neither zero nor a message are a fault, as is a datagram that
    begins as none.
    """
    rest = payload
    while rest:
        version = int.from_bytes(rest[:2], "big")
        reader = _READERS.get(version)
        if reader is None or len(rest) < _HEADER_SIZES[version]:
            yield _no_message(rest, behind=len(payload) - len(rest))
            return
        message, length = reader(rest)
        yield message
        if isinstance(message, Fault):
            return
        rest = rest[length:]
        if not any(rest):
            return


def _no_message(rest: bytes, *, behind: int) -> Fault:
    found = f"{len(rest)} bytes that begin with {rest[:4].hex()}"
    expected = "expected the header of NetFlow v5, v9 or IPFIX (0005, 0009 or 000a)"
    if behind:
        return Fault(
            raw=rest,
            reason="trailing_bytes",
            detail=f"{found} behind the {behind} of the message; {expected}",
        )
    return Fault(raw=rest, reason="no_message", detail=f"{found}; {expected}")


def _read_v5(data: bytes) -> tuple[Message | Fault, int]:
    _, count, uptime, seconds, nanos, sequence, engine_type, engine, sampling = _V5.unpack_from(data)
    length = _V5.size + count * V5_SIZE
    if not 0 < count <= V5_MOST or length > len(data):
        room = (len(data) - _V5.size) // V5_SIZE
        detail = f"the header says {count} records, the {len(data)} bytes have room for {room}"
        return Fault(raw=data, reason="wrong_count", detail=detail), len(data)
    message = Message(
        version=V5,
        head=data[: _V5.size],
        domain=engine_type << 8 | engine,
        sequence=sequence,
        export_us=seconds * 1_000_000 + nanos // 1000 % 1_000_000,
        uptime_ms=uptime,
        # Two bits of mode, fourteen of interval: 0 and 1 both mean every packet.
        interval=max(1, sampling & 0x3FFF),
        sets=[(V5_TEMPLATE.id, data[_V5.size : length])],
    )
    return message, length


def _read_v9(data: bytes) -> tuple[Message | Fault, int]:
    _, _, uptime, seconds, sequence, domain = _V9.unpack_from(data)
    message = Message(
        version=V9,
        head=data[: _V9.size],
        domain=domain,
        sequence=sequence,
        export_us=seconds * 1_000_000,
        uptime_ms=uptime,
    )
    _walk(message, data[_V9.size :])
    return message, len(data)


def _read_ipfix(data: bytes) -> tuple[Message | Fault, int]:
    _, length, seconds, sequence, domain = _IPFIX.unpack_from(data)
    if not _IPFIX.size <= length <= len(data):
        detail = f"the header says {length} bytes, there are {len(data)}"
        return Fault(raw=data, reason="wrong_length", detail=detail), len(data)
    message = Message(
        version=IPFIX,
        head=data[: _IPFIX.size],
        domain=domain,
        sequence=sequence,
        export_us=seconds * 1_000_000,
        uptime_ms=None,
    )
    _walk(message, data[_IPFIX.size : length])
    return message, length


_READERS = {V5: _read_v5, V9: _read_v9, IPFIX: _read_ipfix}


def _walk(message: Message, body: bytes) -> None:
    """Collect the sets of a v9 or IPFIX message; a wrong length hides all that follow it."""
    at = 0
    while len(body) - at >= _SET.size:
        set_id, length = _SET.unpack_from(body, at)
        if not _SET.size <= length <= len(body) - at:
            break
        message.sets.append((set_id, body[at + _SET.size : at + length]))
        at += length
    # Some exporters fill the datagram up with zeros.
    if any(body[at:]):
        message.faults.append(_broken_set(body, at))


def _broken_set(body: bytes, at: int) -> Fault:
    found = (
        f"a set that says {int.from_bytes(body[at + 2 : at + 4], 'big')} bytes"
        if len(body) - at >= _SET.size
        else "bytes that are no set"
    )
    detail = f"{found} where {len(body) - at} are left, expected 4 to {len(body) - at}"
    return Fault(raw=body[at:], reason="broken_set", detail=detail)
