"""Compiled loops: kept on disk between processes where there is a place for it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[F], F]:
    """`numba.njit` without the interpreter's lock, cached where the machine code can be written.

    numba looks beside the source, then in the user's cache, and refuses to define the function if
    neither can be written, as in a container whose user owns neither. Then each process compiles
    what it uses; NUMBA_CACHE_DIR names a place of one's own.

    Args:
        options: numba's, e.g. fastmath.
    """

    def decorate(function: F) -> F:
        try:
            ready: F = njit(cache=_has_place(), nogil=True, **options)(function)
        except RuntimeError:
            ready = njit(nogil=True, **options)(function)
        return ready

    return decorate


def _has_place() -> bool:
    """Whether numba has where to look: for a user without a home it would make a folder named ~."""
    if os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME"):
        return True
    try:
        Path.home()
    except RuntimeError:
        return False
    return True
