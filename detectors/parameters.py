"""Hyper-parameters: read back from a detector, and checked when one is made."""

import inspect
from collections.abc import Sequence
from typing import Any

from detectors.errors import ParameterError


def parameters_of(detector: object) -> dict[str, Any]:
    """Return the constructor's arguments, read from the attributes of the same names."""
    return {name: getattr(detector, name) for name in inspect.signature(type(detector)).parameters}


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is not among `choices`."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ParameterError(f"{name} is {value!r}, expected one of {listed}")


def whole(name: str, value: object, *, least: int) -> None:
    """Refuse what is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ParameterError(f"{name} is {value!r}, expected a whole number of at least {least}")


def between(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is not a number in (low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
        raise ParameterError(f"{name} is {value!r}, expected a number in ({low:g}, {high:g}]")


def wholes(name: str, value: object, *, least: int, many: int = 0) -> tuple[int, ...]:
    """Return a list of at least `many` whole numbers, each of at least `least`; refuse anything else.

    Examples
    --------
    >>> wholes("hidden", [64, 32], least=1)
    (64, 32)
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) < many:
        wanted = f"at least {many} " if many else ""
        raise ParameterError(f"{name} is {value!r}, expected a list of {wanted}whole numbers, as [64, 32]")
    for number in value:
        whole(name, number, least=least)
    return tuple(value)
