"""Values of JSON objects read as columns; those that cannot be read are faults.

What a value is read as depends on that value alone, never on those around it. Numbers may stand as text,
as Protobuf's JSON writes them. Null and the empty text are missing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.json_paths import Fault, Path_
from connectors.records import ADDRESS, LATEST_US
from connectors.table_fields import packed_address

Scale = tuple[int, int]
"""A unit: values are multiplied by the first and divided by the second."""

ONE: Scale = (1, 1)

Floats = npt.NDArray[np.float64]

_TOGETHER = ({int, float}, {str})  # not bool, which Arrow would take for a number among numbers
_WHOLE = r"^[+-]?0*([1-8]?\d{1,18})$"  # what surely fits 64 bits
_NO_ZONE = r"[Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)?$"
_MOST = float(1 << 62)
_MOST_PORT = 65_535


class Values:
    """The values at some paths of `n` objects.

    Each reader returns a whole column, shape (n,); where it cannot read a value there is a null, and the
    row stands in `faults`, with its first fault.
    """

    def __init__(self, columns: Mapping[Path_, Sequence[object]], n: int) -> None:
        self.faults: dict[int, Fault] = {}
        self._columns = columns
        self._n = n

    def __len__(self) -> int:
        return self._n

    def text(self, path: Path_) -> pa.Array:
        """Return texts; whole numbers and truth values as they are written."""
        values = self._columns[path]
        array = _plain(values)
        if array is None or array.type == pa.float64():
            array = pa.array([_word(value) for value in values], pa.string())
        array = array.cast(pa.string())
        texts = pc.if_else(pc.equal(array, ""), None, array)
        self._note(path, texts.is_valid(), "a text")
        return texts

    def count(self, path: Path_, scale: Scale = ONE) -> pa.Array:
        """Return whole numbers as int64; a part of a byte is left out."""
        whole, fraction = self._numbers(path)
        if scale == ONE:
            self._note(path, whole.is_valid(), "a whole number")
            return whole
        scaled = _whole_scaled(whole, scale)
        other = _rounded(fraction, scale)
        found = pc.coalesce(scaled, other)
        self._note(path, found.is_valid(), "a number of a size that there is")
        return found

    def number(self, path: Path_, scale: Scale = ONE) -> pa.Array:
        """Return numbers as float64."""
        whole, fraction = self._numbers(path)
        numbers = pc.coalesce(whole.cast(pa.float64(), safe=False), fraction)
        self._note(path, numbers.is_valid(), "a number")
        return pc.divide(pc.multiply(numbers, float(scale[0])), float(scale[1]))

    def port(self, path: Path_) -> pa.Array:
        """Return ports as uint16."""
        whole, _ = self._numbers(path)
        fits = pc.and_(pc.greater_equal(whole, 0), pc.less_equal(whole, _MOST_PORT))
        ports = pc.if_else(fits, whole, None)
        self._note(path, ports.is_valid(), f"a port from 0 to {_MOST_PORT}")
        return ports.cast(pa.uint16())

    def address(self, path: Path_) -> pa.Array:
        """Return addresses, 16 bytes each."""
        coded = self.text(path).dictionary_encode()
        packed = pa.array([packed_address(text) for text in coded.dictionary.to_pylist()], ADDRESS)
        addresses = packed.take(coded.indices)
        self._note(path, addresses.is_valid(), "an IPv4 or IPv6 address")
        return addresses

    def flags(self, path: Path_, *, hexadecimal: bool) -> pa.Array:
        """Return TCP flags as int64."""
        if not hexadecimal:
            return self.count(path)
        texts = self.text(path)
        flags = _each(pc.binary_join_element_wise("0x", texts, ""), pa.int64())
        self._note(path, flags.is_valid(), "a hexadecimal number, without 0x")
        return flags

    def epoch(self, path: Path_, scale: Scale) -> pa.Array:
        """Return times as microseconds since 1970, int64; absurd ones as others that the check refuses."""
        whole, fraction = self._numbers(path)
        numbers = _scaled(np.nan_to_num(_filled(fraction), nan=np.inf), scale)
        parts = pa.array(np.rint(np.clip(numbers, -1.0, float(LATEST_US))).astype(np.int64))
        times = pc.coalesce(_clipped(whole, scale), pc.if_else(fraction.is_valid(), parts, None))
        self._note(path, times.is_valid(), "a time as a number")
        return times

    def iso8601(self, path: Path_, *, utc: bool) -> pa.Array:
        """Return times as microseconds since 1970, int64; `utc`: a text without a zone is in UTC."""
        texts = self.text(path)
        if utc:
            bare = pc.match_substring_regex(texts, _NO_ZONE)
            texts = pc.if_else(bare, pc.binary_join_element_wise(texts, "Z", ""), texts)
        fine = pc.floor_temporal(_each(texts, pa.timestamp("ns", "UTC")), unit="microsecond")
        coarse = _each(pc.if_else(fine.is_valid(), None, texts), pa.timestamp("us", "UTC"))
        times = pc.coalesce(fine.cast(pa.timestamp("us", "UTC")), coarse).cast(pa.int64())
        zone = "" if utc else " and a time zone"
        self._note(path, times.is_valid(), f"ISO 8601 with date, time{zone}")
        return times

    def _numbers(self, path: Path_) -> tuple[pa.Array, pa.Array]:
        """Return the whole numbers of a column as int64, and the others as float64."""
        values = self._columns[path]
        array = _plain(values)
        if array is None:
            array = pa.array([_numeral(value) for value in values], pa.string())
        if array.type == pa.string():
            return _read(array)
        return _split(array) if array.type == pa.float64() else (array.cast(pa.int64()), _none(self._n))

    def _note(self, path: Path_, readable: pa.Array, expected: str) -> None:
        values = self._columns[path]
        n_missing = values.count(None) + values.count("")
        if readable.true_count + n_missing >= len(values):
            return
        for row in np.flatnonzero(~np.asarray(readable, dtype=np.bool_)).tolist():
            if values[row] not in (None, ""):
                detail = f"{'.'.join(path)} is {values[row]!r:.60}, expected {expected}"
                self.faults.setdefault(row, ("unreadable_value", detail))


def _plain(values: Sequence[object]) -> pa.Array | None:
    """Return the values as Arrow takes them; nothing where they are of several kinds, or of none."""
    kinds = set(map(type, values)) - {type(None)}
    if not any(kinds <= together for together in _TOGETHER):
        return None
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return None


def _word(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value) if isinstance(value, int | str) else None


def _numeral(value: object) -> str | None:
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    return str(value) if is_number else None


def _none(n: int) -> pa.Array:
    return pa.nulls(n, pa.float64())


def _read(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    is_whole = pc.match_substring_regex(texts, _WHOLE)
    whole = pc.if_else(is_whole, texts, None).cast(pa.int64())
    rest = pc.if_else(pc.or_(is_whole, pc.equal(texts, "")), None, texts)
    if rest.null_count == len(rest):
        return whole, _none(len(texts))
    more, fraction = _split(_each(rest, pa.float64()))
    return pc.coalesce(whole, more), fraction


def _split(numbers: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return the numbers without a fraction as int64, and the others."""
    values = _filled(numbers)
    is_whole = (values == np.floor(values)) & (np.abs(values) < _MOST)
    is_whole &= np.asarray(numbers.is_valid(), dtype=np.bool_)
    whole = pa.array(np.where(is_whole, values, 0).astype(np.int64), mask=~is_whole)
    return whole, pc.if_else(pa.array(is_whole), None, numbers)


def _filled(numbers: pa.Array) -> Floats:
    return np.asarray(pc.fill_null(numbers, 0.0), dtype=np.float64)


def _scaled(values: Floats, scale: Scale) -> Floats:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
        return values * scale[0] / scale[1]


def _each(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return texts as a type, null where one cannot be read; slow only where there is such a one."""
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return pa.array([_cast(text, kind) for text in texts], kind)


def _cast(text: pa.Scalar, kind: pa.DataType) -> pa.Scalar | None:
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        return None


def _whole_scaled(whole: pa.Array, scale: Scale) -> pa.Array:
    """Return whole numbers in another unit, rounded down; null where 64 bits do not hold them."""
    factor, divisor = scale
    values = np.asarray(pc.fill_null(whole, 0), dtype=np.int64)
    most = (1 << 62) // factor
    fits = (values >= -most) & (values <= most) & np.asarray(whole.is_valid(), dtype=np.bool_)
    return pa.array(np.where(fits, values, 0) * factor // divisor, mask=~fits)


def _rounded(fraction: pa.Array, scale: Scale) -> pa.Array:
    values = _scaled(_filled(fraction), scale)
    fits = (np.abs(values) < _MOST) & np.asarray(fraction.is_valid(), dtype=np.bool_)
    values = np.where(fits, values, 0)
    nearest = np.where(values < 0, np.floor(values), np.rint(values))  # no negative number becomes 0
    return pa.array(nearest.astype(np.int64), mask=~fits)


def _clipped(whole: pa.Array, scale: Scale) -> pa.Array:
    """Return whole numbers in microseconds, rounded down, those that no time has at a bound."""
    factor, divisor = scale
    most = LATEST_US * divisor // factor
    values = np.clip(np.asarray(pc.fill_null(whole, 0), dtype=np.int64), -divisor, most)
    return pa.array(values * factor // divisor, mask=np.asarray(whole.is_null(), dtype=np.bool_))
