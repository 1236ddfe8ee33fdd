"""Machine probes in compiled loops: multiply-add peak, read and copy bandwidth over sizes and threads.

The multiply-add probe evaluates independent polynomials on data that stays in registers and L1, so that
neither loads nor the latency of one chain limit it. Bandwidth probes sweep a buffer again and again; each
thread has its own buffer. Every figure is the best of several repeats: other load can only slow a loop down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Best rates at one working-set size per thread."""

    bytes_per_thread: int
    threads: int
    read_bytes_per_s: float
    copy_bytes_per_s: float  # read plus written


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
def _fma(x: NDArray[np.float32], out: NDArray[np.float32], repeats: int) -> None:
    one, two, three, four = np.float32(0.5), np.float32(0.25), np.float32(0.125), np.float32(0.75)
    for _ in range(repeats):
        for i in range(x.size):
            v = x[i]
            first = _horner(v, v, one) + _horner(v, v + two, two)
            out[i] = first + _horner(v, v + three, three) + _horner(v, v + four, four)


@_sums
def _read(x: NDArray[np.float32], repeats: int) -> float:
    total = np.float32(0)
    for r in range(repeats):
        for i in range(x.size):
            total += x[i]
        x[r % x.size] += np.float32(1e-9)
    return float(total)


@_fused
def _copy(x: NDArray[np.float32], y: NDArray[np.float32], repeats: int) -> None:
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
def _dependent(x: int, repeats: int) -> int:
    """A chain in which each step waits for an integer product and a sum: three cycles and one. Squares, as
    a compiler composes linear steps."""
    for _ in range(repeats):
        x = x * x + 1442695040888963407
    return x


def clock_hz() -> float:
    """Clock of one busy core, from a chain of dependent products and sums of four cycles a step (Intel since
    Sandy Bridge, AMD since Zen; Agner Fog's instruction tables). Elsewhere it is a unit, not a fact: rates
    are kept per cycle of this clock."""
    repeats = 3_000_000
    return 4 * repeats / best_seconds(lambda: _dependent(1, repeats), 9)


def mac_peak(threads: int) -> float:
    """Multiply-adds per second of `threads` threads together."""
    buffers = [(np.full(1024, 0.4, np.float32), np.zeros(1024, np.float32)) for _ in range(threads)]
    repeats = 400

    def one(i: int) -> None:
        _fma(buffers[i][0], buffers[i][1], repeats)

    seconds = _parallel_best(one, threads, 7)
    return threads * repeats * 1024 * MACS_PER_ELEMENT / seconds


def bandwidth(bytes_per_thread: int, threads: int) -> Bandwidth:
    """Best read and copy rates of `threads` threads, each on its own buffers of that total size."""
    n = bytes_per_thread // 8
    repeats = max(1, 40_000_000 // bytes_per_thread)
    buffers = [(np.ones(n, np.float32), np.ones(n, np.float32)) for _ in range(threads)]
    wide = [np.ones(2 * n, np.float32) for _ in range(threads)]

    def read(i: int) -> None:
        _read(wide[i], repeats)

    def copy(i: int) -> None:
        _copy(buffers[i][0], buffers[i][1], repeats)

    moved = threads * repeats * n * 8
    return Bandwidth(
        bytes_per_thread,
        threads,
        moved / _parallel_best(read, threads, 5),
        moved / _parallel_best(copy, threads, 5),
    )


def _parallel_best(task: Callable[[int], None], threads: int, repeats: int) -> float:
    if threads == 1:
        return best_seconds(lambda: task(0), repeats)
    with ThreadPoolExecutor(threads) as pool:
        return best_seconds(lambda: list(pool.map(task, range(threads))), repeats)
