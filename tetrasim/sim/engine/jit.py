"""The one place numba is imported: a typed, cached `njit`, so that hot loops stay under mypy strict."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile on first call (nopython), keep the machine code on disk for the next process."""
    import numba

    return cast(Callable[P, R], numba.njit(cache=True, nogil=True)(function))
