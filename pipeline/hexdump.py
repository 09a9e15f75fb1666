"""Bytes as a person can read them: Arrow rows, text, or a hexdump."""

import ipaddress
from typing import Any

import pyarrow as pa

from connectors.errors import RecordError
from connectors.records import ADDRESS
from connectors.wire import decode

MOST_ROWS = 20
MOST_BYTES = 2048
WIDTH = 16


def readable(value: bytes) -> str:
    """Return Arrow rows column by column, text as it is, and anything else as a hexdump.

    Long values are cut, which the last line says.

    Examples
    --------
    >>> readable(b"0,tcp,http,SF")
    '0,tcp,http,SF'
    >>> print(readable(bytes([0, 1, 254]) + b"weir"))
    000000  00 01 fe 77 65 69 72                             |...weir|
    """
    try:
        return _rows(decode(value))
    except RecordError:
        pass
    try:
        text = value[:MOST_BYTES].decode().replace("\r\n", "\n").expandtabs()
    except UnicodeDecodeError:
        return hexdump(value)
    if printable(text) != text:
        return hexdump(value)
    return text + _rest(len(value) - MOST_BYTES, "bytes")


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: all but line ends that does not print is replaced.

    Examples
    --------
    >>> printable(f"a{chr(27)}[2Jb")
    'a�[2Jb'
    """
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def hexdump(value: bytes) -> str:
    """Return offset, bytes and characters, sixteen a line."""
    lines = []
    for at in range(0, min(len(value), MOST_BYTES), WIDTH):
        part = value[at : at + WIDTH]
        characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:06x}  {part.hex(' '):{3 * WIDTH - 1}}  |{characters}|")
    return "\n".join(lines) + _rest(len(value) - MOST_BYTES, "bytes")


def _rows(batch: pa.RecordBatch) -> str:
    width = max((len(name) for name in batch.schema.names), default=0)
    blocks = [
        "\n".join(
            f"{name:{width}}  {_cell(batch.column(i), row)}" for i, name in enumerate(batch.schema.names)
        )
        for row in range(min(batch.num_rows, MOST_ROWS))
    ]
    return "\n\n".join(blocks or ["no rows"]) + _rest(batch.num_rows - MOST_ROWS, "rows")


def _cell(column: pa.Array, row: int) -> str:
    value: Any = column[row].value if pa.types.is_timestamp(column.type) else column[row].as_py()
    if value is None:
        return "null"
    if column.type == ADDRESS:
        address = ipaddress.IPv6Address(value)
        return str(address.ipv4_mapped or address)
    if pa.types.is_timestamp(column.type):
        return _timestamp(value, column.type.unit)
    return repr(value) if isinstance(value, bytes) else printable(str(value))


def _timestamp(value: int, unit: str) -> str:
    """Return a time; one that no calendar holds stays a number, for it is why the row is here."""
    try:
        return str(pa.scalar(value, pa.timestamp(unit, tz="UTC")).as_py().isoformat())
    except (ValueError, OverflowError):
        return f"{value} {unit} since 1970"


def _rest(n: int, what: str) -> str:
    return f"\n... {n} more {what}" if n > 0 else ""
