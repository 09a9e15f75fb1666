"""Quantities as people write them: bytes, durations, shares, counts and odds."""

import re
from collections.abc import Callable

RAREST = 1e12
"""Beyond this the sentence says "fewer than 1 in": such tails are extrapolated."""

_PREFIXES = ("", "k", "M", "G", "T", "P")


def quantity(value: float | str, unit: str = "", kind: str = "numeric") -> str:
    """Return a feature's value as people write it.

    Parameters
    ----------
    value : float or str
        In `unit`; a category is text.
    unit : str
        Unit of the feature. Counts of flows, packets, addresses and ports are bare numbers, since
        the feature's text says what is counted.
    kind : str
        Kind of the feature; a binary one is yes or no.

    Examples
    --------
    >>> quantity(4_812_345, "bytes"), quantity(182, "s"), quantity(1234, "flows"), quantity(0.984, "ratio")
    ('4.8 MB', '3 min 2 s', '1,234', '98 %')
    >>> quantity(0.0021, "s"), quantity(4.2e6, "bit/s"), quantity("http"), quantity(1.0, kind="binary")
    ('2.1 ms', '4.2 Mbit/s', 'http', 'yes')
    >>> quantity(23_400, "kB"), quantity(0.25, "kB")
    ('23 MB', '250 bytes')
    """
    if isinstance(value, str):
        return value
    if kind == "binary":
        return "yes" if value >= 0.5 else "no"
    write = _UNITS.get(unit)
    written = write(abs(value)) if write else f"{_number(abs(value))} {unit}"
    return f"-{written}" if value < 0 and _NOT_ZERO.search(written) else written


_NOT_ZERO = re.compile("[1-9]")


def _count(value: float) -> str:
    """Return a number of whole things, or what a model expected: less than a twentieth is none."""
    return _number(value) if value >= 0.05 else "0"


def _number(value: float) -> str:
    """Return two significant digits, more before the point, and thousands separators."""
    if value >= 1e15:
        return f"{value:.2g}"
    if value >= 9.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}"


def _scaled(value: float, unit: str) -> str:
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{_number(value)} {_PREFIXES[power]}{unit}"


def _bytes(value: float) -> str:
    return _scaled(value, "B") if value >= 999.5 else f"{_count(value)} bytes"


def duration(seconds: float) -> str:
    """Return a length of time in at most two units.

    Examples
    --------
    >>> duration(0.00035), duration(12.34), duration(3600), duration(200_000)
    ('0.35 ms', '12 s', '1 h', '2 d 7 h')
    """
    if seconds == 0:
        return "0 s"
    if seconds < 0.9995:
        ms = seconds * 1000
        return f"{_number(ms)} ms" if ms >= 0.0995 else f"{_number(ms * 1000)} µs"
    if seconds < 59.5:
        return f"{_number(seconds)} s"
    whole = round(seconds)
    size, large, rest_size, small = next(step for step in _STEPS if whole >= step[0])
    rest = whole % size // rest_size
    return f"{whole // size:,} {large}" + (f" {rest} {small}" if rest else "")


_STEPS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))

_UNITS: dict[str, Callable[[float], str]] = {
    "bytes": _bytes,
    "kB": lambda value: _bytes(value * 1000),
    "bit/s": lambda value: _scaled(value, "bit/s"),
    "s": duration,
    "ms": lambda value: duration(value / 1000),
    "ratio": lambda value: f"{_number(value * 100)} %",
    "": _number,
    **dict.fromkeys(("flows", "packets", "addresses", "ports"), _count),
}


def odds(p_value: float) -> str:
    """Return a p-value as how many normal flows look like this or stranger.

    Examples
    --------
    >>> odds(2e-6)
    '1 in 500,000 normal flows'
    >>> odds(1e-15)
    'fewer than 1 in 1,000,000,000,000 normal flows'
    """
    if p_value * RAREST < 1:
        return f"fewer than 1 in {RAREST:,.0f} normal flows"
    return f"1 in {float(f'{1 / p_value:.2g}'):,.0f} normal flows"
