"""Fitted detectors as bytes: JSON and safetensors, never pickles."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from detectors.base import State
from detectors.errors import StateError

JSON_FILE = "state.json"
ARRAYS_FILE = "weights.safetensors"


def dump_state(state: State) -> dict[str, bytes]:
    """Return the files that hold `state`: name -> content; equal states give equal bytes.

    Examples
    --------
    >>> files = dump_state(State(parameters={"k": 1}, arrays={"mean": np.zeros(2)}))
    >>> sorted(files)
    ['state.json', 'weights.safetensors']
    >>> load_state(files).parameters
    {'k': 1}
    """
    arrays = {name: np.ascontiguousarray(state.arrays[name]) for name in sorted(state.arrays)}
    text = json.dumps(dict(state.parameters), sort_keys=True, indent=1, allow_nan=False)
    return {JSON_FILE: text.encode(), ARRAYS_FILE: save(arrays)}


def load_state(files: Mapping[str, bytes]) -> State:
    """Return the state that `dump_state` wrote.

    Raises
    ------
    StateError
        If a file is missing or damaged.
    """
    for name in (JSON_FILE, ARRAYS_FILE):
        if name not in files:
            raise StateError(f"{name} is missing; copy the whole bundle or train the model again")
    return State(parameters=_json(files[JSON_FILE]), arrays=_arrays(files[ARRAYS_FILE]))


def _json(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise StateError(f"{JSON_FILE} is not JSON ({error}); train the model again") from error
    if not isinstance(value, dict):
        raise StateError(f"{JSON_FILE} holds a {type(value).__name__}, expected an object")
    return value


def _arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    try:
        return dict(load(content))
    except (SafetensorError, ValueError) as error:
        raise StateError(f"{ARRAYS_FILE} is damaged ({error}); train the model again") from error


def array(state: State, name: str, *shape: int | None) -> npt.NDArray[np.float64]:
    """Return a float64 array of the state; None in `shape` stands for any length.

    Raises
    ------
    StateError
        If it is missing, or has another type or shape.
    """
    if name not in state.arrays:
        raise StateError(f"array {name!r} is missing from the saved state; train the model again")
    value = state.arrays[name]
    fits = value.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, value.shape, strict=True)
    )
    if value.dtype != np.float64 or not fits:
        raise StateError(f"array {name!r} is {value.dtype} {value.shape}, expected float64 {shape}")
    if not np.isfinite(value).all():
        raise StateError(f"array {name!r} holds NaN or infinity; train the model again")
    return value
