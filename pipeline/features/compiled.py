"""How functions are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Return `function` compiled at its first call, and kept on disk where a folder can be written.

    Numba's disk cache notices a change of the file of a function, not of the files that the function
    calls into: compiled functions that call each other belong into one file.
    """
    try:
        return cast("F", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither beside the source nor in the home folder: compile at each start
        return cast("F", numba.njit(nogil=True)(function))
