"""The cells of a block, read as numbers, texts, ports and addresses; cells that cannot be read are faults."""

import ipaddress

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.records import ADDRESS
from connectors.table_file import Block

_MAPPED = bytes(10) + b"\xff\xff"


def packed_address(text: str) -> bytes | None:
    """Return 16 bytes of an IPv4 or IPv6 address, or None if it is none.

    Examples
    --------
    >>> packed_address("10.0.0.1").hex()
    '00000000000000000000ffff0a000001'
    """
    try:
        packed = ipaddress.ip_address(text).packed
    except ValueError:
        return None
    return packed if len(packed) == 16 else _MAPPED + packed


class Fields:
    """The columns of a block under the names of its layout.

    Each reader returns a whole column; a cell it cannot read becomes null and is noted in `faults`
    by its row, the first one of each row.
    """

    def __init__(self, block: Block) -> None:
        self.positions: npt.NDArray[np.int64] = block.positions
        self.faults: dict[int, tuple[str, str]] = {}
        self._columns = block.columns

    def __len__(self) -> int:
        return len(self.positions)

    def text(self, name: str) -> pa.Array:
        """Return a column as text without blanks around it; missing cells are empty."""
        column = self._columns[name].cast(pa.string())
        return pc.fill_null(pc.utf8_trim_whitespace(column), "")

    def number(self, name: str) -> pa.Array:
        """Return a column as float64; an empty cell is null."""
        return self._numeric(name, self._columns[name], pa.float64(), "a number")

    def count(self, name: str) -> pa.Array:
        """Return a column as int64; an empty cell is null."""
        column = self._columns[name]
        if pa.types.is_floating(column.type):
            # A typed file with missing counts holds them as NaN.
            column = pc.if_else(pc.is_nan(column), None, column)
        return self._numeric(name, column, pa.int64(), "a whole number")

    def port(self, name: str) -> pa.Array:
        """Return a column of ports as uint16; `-` and empty cells are null, `0x50` is 80."""
        column = pc.utf8_lower(self.text(name))
        column = pc.if_else(pc.is_in(column, pa.array(["-", ""])), None, column)
        return self._parsed(name, column, pa.uint16(), "a port from 0 to 65535, in decimal or 0x hex")

    def address(self, name: str) -> pa.Array:
        """Return a column of addresses as 16 bytes each; `-` and empty cells are null."""
        coded = self.text(name).dictionary_encode()
        texts = coded.dictionary.to_pylist()
        packed = pa.array([packed_address(text) for text in texts], ADDRESS)
        known = pa.array(
            [bool(p.is_valid) or text in ("", "-") for p, text in zip(packed, texts, strict=True)]
        )
        self._note(name, known.take(coded.indices), "an IPv4 or IPv6 address")
        return packed.take(coded.indices)

    def _numeric(self, name: str, column: pa.Array, kind: pa.DataType, expected: str) -> pa.Array:
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            pass
        if pa.types.is_string(column.type):
            column = self.text(name)
            column = pc.if_else(pc.equal(column, ""), None, column)
        return self._parsed(name, column, kind, expected)

    def _parsed(self, name: str, column: pa.Array, kind: pa.DataType, expected: str) -> pa.Array:
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            pass
        if pa.types.is_string(column.type):
            # Copies made by other tools write counts as 3.0.
            column = pc.replace_substring_regex(column, r"^([+-]?\d+)\.0+$", r"\1")
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            return self._one_by_one(name, column, kind, expected)

    def _one_by_one(self, name: str, column: pa.Array, kind: pa.DataType, expected: str) -> pa.Array:
        """Cast what can be cast: the slow way, taken only by blocks with a bad cell."""
        result = pa.array([_cast_or_none(cell, kind) for cell in column], kind)
        self._note(name, pc.or_(result.is_valid(), column.is_null()), expected)
        return result

    def _note(self, name: str, readable: pa.Array, expected: str) -> None:
        for row in np.flatnonzero(~np.asarray(readable, dtype=np.bool_)).tolist():
            seen = repr(self._columns[name][row].as_py())[:60]
            detail = f"record {self.positions[row]}: {name} is {seen}, expected {expected}"
            self.faults.setdefault(row, ("unreadable_value", detail))


def _cast_or_none(cell: pa.Scalar, kind: pa.DataType) -> object:
    try:
        return cell.cast(kind).as_py()
    except pa.ArrowInvalid:
        return None
