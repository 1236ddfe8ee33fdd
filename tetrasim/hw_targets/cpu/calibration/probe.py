"""Compiled loops that probe a machine: dependent steps, multiply-adds, reading, copying.

The multiply-add probe evaluates independent polynomials on data that stays in registers and L1, so that
neither loads nor the latency of one chain limit it. Bandwidth probes sweep a buffer again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
MACS_PER_ELEMENT = 4 * 16


def _fused(function: Callable[P, R]) -> Callable[P, R]:
    """Compile with contraction to fused multiply-adds only: reordering would remove most of the probe."""
    import numba

    return cast(Callable[P, R], numba.njit(cache=True, nogil=True, fastmath={"contract"})(function))


def _sums(function: Callable[P, R]) -> Callable[P, R]:
    """Compile with sums reassociated, so that reading is not slowed down by one chain of additions."""
    import numba

    return cast(Callable[P, R], numba.njit(cache=True, nogil=True, fastmath=True)(function))


@_fused
def _horner(v: np.float32, a: np.float32, h: np.float32) -> np.float32:
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    a = a * v + h
    return a * v + h


@_fused
def multiply_add(x: NDArray[np.float32], out: NDArray[np.float32], repeats: int) -> None:
    one, two, three, four = np.float32(0.5), np.float32(0.25), np.float32(0.125), np.float32(0.75)
    for _ in range(repeats):
        for i in range(x.size):
            v = x[i]
            first = _horner(v, v, one) + _horner(v, v + two, two)
            out[i] = first + _horner(v, v + three, three) + _horner(v, v + four, four)


@_sums
def read(x: NDArray[np.float32], repeats: int) -> float:
    total = np.float32(0)
    for r in range(repeats):
        for i in range(x.size):
            total += x[i]
        x[r % x.size] += np.float32(1e-9)
    return float(total)


@_fused
def copy(x: NDArray[np.float32], y: NDArray[np.float32], repeats: int) -> None:
    for _ in range(repeats):
        for i in range(x.size):
            y[i] = x[i] * np.float32(1.5)


def best_seconds(run: Callable[[], object], repeats: int, at_least_s: float = 0.0) -> float:
    """Smallest wall time of `run` over at least `repeats` calls and `at_least_s` seconds, after one."""
    run()
    best, began, done = float("inf"), time.perf_counter(), 0
    while done < repeats or time.perf_counter() - began < at_least_s:
        start = time.perf_counter_ns()
        run()
        best = min(best, (time.perf_counter_ns() - start) * 1e-9)
        done += 1
    return best


@_fused
def dependent(x: int, repeats: int) -> int:
    """A chain in which each step waits for an integer product and a sum: three cycles and one (Intel since
    Sandy Bridge, AMD since Zen; Agner Fog's instruction tables). Elsewhere the clock taken from it is a unit,
    not a fact: rates are kept per cycle of it. Squares, as a compiler composes linear steps."""
    for _ in range(repeats):
        x = x * x + 1442695040888963407
    return x
