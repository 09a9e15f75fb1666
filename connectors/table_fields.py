"""The cells of a block, read as numbers, texts, ports and addresses; cells that cannot be read are faults."""

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.records import ADDRESS, LATEST_US, TIME
from connectors.table_file import Block

_MAPPED = bytes(10) + b"\xff\xff"
_TEXT = pa.string()

# 2019/04/04 14:03:53.362436, 2019-04-04T14:03:53Z and their like; without a zone it is UTC.
_WRITTEN_TIME = r"^(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*(Z|[+-]\d\d:?\d\d)?$"
_ZONE = r"(Z|[+-]\d\d:?\d\d)$"
_SECONDS = r"^\d{1,10}(\.\d+)?$"


@lru_cache(1 << 16)
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


def ended(start: pa.Array, duration: pa.Array) -> pa.Array:
    """Return when flows ended, to the microsecond.

    A duration (s) that cannot be counts as 0 here: the check of the record names it.
    """
    seconds = np.asarray(pc.fill_null(duration, 0.0), dtype=np.float64)
    seconds = np.clip(np.nan_to_num(seconds, posinf=0.0), 0.0, LATEST_US / 1e6)
    return pc.add(start.cast(pa.int64()), pa.array(np.rint(seconds * 1e6).astype(np.int64))).cast(TIME)


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

    def exact(self, name: str) -> pa.Array:
        """Return a column of text as it stands there."""
        return self._columns[name].cast(pa.string())

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def text(self, name: str) -> pa.Array:
        """Return a column as text without blanks around it; missing cells are empty."""
        return _trimmed(self._columns[name])

    def number(self, name: str) -> pa.Array:
        """Return a column as float64; an empty cell is null."""
        return self._numeric(name, self._columns[name], pa.float64(), "a number")

    def count(self, name: str) -> pa.Array:
        """Return a column as int64; an empty cell is null."""
        column = self._columns[name]
        return self._numeric(name, _without_nan(column), pa.int64(), "a whole number")

    def port(self, name: str, there: pa.Array | None = None) -> pa.Array:
        """Return a column of ports as uint16; `-` and empty cells are null, `0x50` is 80.

        Where `there` is given and not true, the flow has no ports, and what stands here is not read.
        """
        column = pc.utf8_lower(_trimmed(_without_nan(self._columns[name])))
        column = pc.if_else(pc.is_in(column, pa.array(["-", ""])), None, column)
        if there is not None:
            column = pc.if_else(there, column, None)
        return self._parsed(name, column, pa.uint16(), "a port from 0 to 65535, in decimal or 0x hex")

    def address(self, name: str) -> pa.Array:
        """Return a column of addresses as 16 bytes each; `-` and empty cells are null.

        They stand there as text, or as 4 or 16 bytes.
        """
        if is_binary(self._columns[name].type):
            return self._packed(name)
        coded = self.text(name).dictionary_encode()
        texts = coded.dictionary.to_pylist()
        packed = pa.array([packed_address(text) for text in texts], ADDRESS)
        known = pa.array(
            [bool(p.is_valid) or text in ("", "-") for p, text in zip(packed, texts, strict=True)]
        )
        self._note(name, known.take(coded.indices), "an IPv4 or IPv6 address")
        return packed.take(coded.indices)

    def _packed(self, name: str) -> pa.Array:
        column = self._columns[name].cast(pa.binary())
        length = pc.binary_length(column)
        mapped = pc.binary_join_element_wise(pa.scalar(_MAPPED), column, pa.scalar(b""))
        known = pc.or_(pc.equal(length, 4), pc.equal(length, 16))
        self._note(name, pc.fill_null(known, fill_value=True), "an address of 4 or 16 bytes")
        whole = pc.if_else(pc.equal(length, 4), mapped, column)
        return pc.if_else(known, whole, None).cast(ADDRESS)

    def time(self, name: str, *formats: str) -> pa.Array:
        """Return a column of times: dates as in ISO 8601, seconds since 1970, or one of `formats` (strptime).

        Times without a zone are UTC; an empty cell is null. A typed column may have any unit.
        """
        if pa.types.is_timestamp(self._columns[name].type):
            column = pc.floor_temporal(self._columns[name], unit="microsecond")
            return self._parsed(name, column, TIME, "a time from 1970 to 2099")
        text = self.text(name)
        # A zone-free time gets the zone in which it is read; what is no such time stays as it is.
        written = pc.replace_substring_regex(text, _WRITTEN_TIME, r"\1-\2-\3 \4\5")
        for form in formats:
            read = pc.strptime(text, format=form, unit="us", error_is_null=True)
            written = pc.if_else(read.is_valid(), pc.cast(read, pa.string()), written)
        seconds = pc.if_else(pc.match_substring_regex(text, _SECONDS), text, None).cast(pa.float64())
        since = pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(TIME)
        written = pc.if_else(pc.equal(text, ""), None, pc.if_else(since.is_valid(), None, written))
        zoned = pc.match_substring_regex(written, _ZONE)
        written = pc.if_else(zoned, written, pc.binary_join_element_wise(written, "Z", ""))
        read = self._parsed(name, written, TIME, "a time such as 2019-04-04 14:03:53.362436")
        return pc.coalesce(read, since)

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
            # Copies made by other tools write counts as 3.0, and Java large ones as 1.2345678E7.
            column = pc.replace_substring_regex(column, r"^([+-]?\d+)\.0+$", r"\1")
            column = _without_exponents(column) if kind == pa.int64() else column
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
            detail = f"{name} is {seen}, expected {expected}"
            self.faults.setdefault(row, ("unreadable_value", detail))


def is_binary(kind: pa.DataType) -> bool:
    """Say whether a column holds bytes."""
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _trimmed(column: pa.Array) -> pa.Array:
    return pc.fill_null(pc.utf8_trim_whitespace(column.cast(pa.string())), "")


def _without_nan(column: pa.Array) -> pa.Array:
    """Return null for NaN: a typed file with missing counts holds them so."""
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


def _cast_or_none(cell: pa.Scalar, kind: pa.DataType) -> pa.Scalar | None:
    try:
        return cell.cast(kind)
    except pa.ArrowInvalid:
        return None


def _without_exponents(column: pa.Array) -> pa.Array:
    """Return 12345678 for 1.2345678E7; what is no whole number of 53 bits stays as it is."""
    written = pc.match_substring_regex(column, r"^[+-]?\d(\.\d+)?[eE]\+?\d{1,2}$")
    numbers = pc.if_else(written, column, None).cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), float(1 << 53)))
    counts = pc.if_else(whole, numbers, None).cast(pa.int64())
    return pc.coalesce(counts.cast(pa.string()), column)


def renamed(column: pa.Array, rename: Callable[[Any], Any], kind: pa.DataType = _TEXT) -> pa.Array:
    """Return a column with each distinct value replaced; null stays null.

    Examples
    --------
    >>> renamed(pa.array(["A", None, "B", "A"]), {"A": "a"}.get).to_pylist()
    ['a', None, None, 'a']
    """
    coded = column.dictionary_encode()
    return pa.array([rename(value) for value in coded.dictionary.to_pylist()], kind).take(coded.indices)


def mask_of(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Return where a column of truth values is true; null is not."""
    return np.asarray(pc.fill_null(column, fill_value=False), dtype=np.bool_)
