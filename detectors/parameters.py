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
