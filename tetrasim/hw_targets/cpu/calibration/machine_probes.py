"""The machine without onnxruntime: clock, multiply-add peak, read and copy rates of every memory level.

The compiled loops are `probe.py`'s; here are their sizes, and what their best times say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tetrasim.hw_targets.cpu.calibration import probe as loops
from tetrasim.hw_targets.cpu.calibration.hostinfo import HostInfo
from tetrasim.hw_targets.cpu.calibration.rounds import Probe
from tetrasim.hw_targets.cpu.calibration.samples import Kernel

REPEATS = 100  # of the multiply-add loop over its 1024 elements
CLOCK_STEPS = 200_000
SWEPT_BYTES = 20_000_000  # per timed run of a bandwidth probe, at least
REACH_TENTHS = (3, 5.5, 8, 10)  # of the last cache; none is a power of two, as tensor sizes often are


@dataclass(frozen=True, slots=True)
class Level:
    """Best rates of one memory level, bytes read (or read and written) per second."""

    bytes_per_thread: int
    read_one: float
    copy_one: float
    read_all: float
    copy_all: float

    @property
    def one(self) -> float:
        """Geometric mean of reading and copying on one thread."""
        return math.sqrt(self.read_one * self.copy_one)

    @property
    def all(self) -> float:
        """The same, all threads together."""
        return math.sqrt(self.read_all * self.copy_all)


@dataclass(frozen=True, slots=True)
class Levels:
    """L1, L2, L3 and main memory, and how much of the last cache one core really gets."""

    levels: tuple[Level, ...]
    l3_reach_bytes: int


def reference_kernel() -> Callable[[], object]:
    """A few hundred thousand multiply-adds on data in L1: some 10 microseconds."""
    x, y = np.full(1024, 0.4, np.float32), np.zeros(1024, np.float32)
    return lambda: loops.multiply_add(x, y, 20)


def machine_probes(host: HostInfo, threads: int) -> list[Probe[Kernel]]:
    """All of them for one thread; bandwidth for more."""
    out = []
    if threads == 1:
        x, y = np.full(1024, 0.4, np.float32), np.zeros(1024, np.float32)
        out.append(Probe(Kernel("clock"), lambda: loops.dependent(1, CLOCK_STEPS)))
        out.append(Probe(Kernel("multiply-add"), lambda: loops.multiply_add(x, y, REPEATS)))
        out += [Probe(Kernel("read", (n,)), _sweep(n, 1, copy=False)) for n in reach_sizes(host)]
    for level, size in enumerate(level_sizes(host)):
        each = max(size // (threads if level > 1 else 1), 4096)
        for kind in ("read", "copy"):
            key = Kernel(kind, (each, level), threads=threads)
            out.append(Probe(key, _sweep(each, threads, copy=kind == "copy")))
    return out


def level_sizes(host: HostInfo) -> tuple[int, int, int, int]:
    """Working sets well inside L1, L2, L3, and one far beyond the last level."""
    l3 = host.l3_bytes or 4 * host.l2_bytes
    far = min(max(4 * l3, 128 << 20), max(host.memory_bytes // 16, 1 << 20))
    return host.l1_bytes // 2, host.l2_bytes // 2, max(2 * host.l2_bytes, l3 // 4), far


def reach_sizes(host: HostInfo) -> tuple[int, ...]:
    """Parts of the last cache."""
    return tuple(round(host.l3_bytes * tenths / 10) for tenths in REACH_TENTHS) if host.l3_bytes else ()


def _sweep(each: int, threads: int, *, copy: bool) -> Callable[[], object]:
    """Sweeps over one buffer per thread (two halves where one is copied to the other)."""
    repeats = sweeps(each)
    n = each // (8 if copy else 4)
    data = [(np.ones(n, np.float32), np.ones(n if copy else 1, np.float32)) for _ in range(threads)]

    def one(i: int) -> None:
        if copy:
            loops.copy(*data[i], repeats)
        else:
            loops.read(data[i][0], repeats)

    if threads == 1:
        return lambda: one(0)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(one, range(threads)))


def sweeps(each: int) -> int:
    """How often a run sweeps over a buffer of `each` bytes."""
    return max(1, SWEPT_BYTES // each)


def rate_of(best: Mapping[Kernel, float], what: str) -> float:
    """Cycles ("clock") or multiply-adds ("multiply-add") per second."""
    amount = 4 * CLOCK_STEPS if what == "clock" else REPEATS * 1024 * loops.MACS_PER_ELEMENT
    return amount / best[Kernel(what)]


def levels_of(host: HostInfo, best: Mapping[Kernel, float]) -> Levels:
    """Rates per level. A nearer level is never slower than a farther one, and all threads together never
    slower than one: what contradicts that was disturbed."""
    found: dict[tuple[str, int, int], float] = {}
    for k, seconds in best.items():
        if k.kind in ("read", "copy") and len(k.size) == 2:
            each, level = k.size
            found[k.kind, level, k.threads] = sweeps(each) * (each // 8 * 8) * k.threads / seconds
    out: list[Level] = []
    for level, size in reversed(list(enumerate(level_sizes(host)))):
        farther = out[-1] if out else None
        rates = {}
        for kind in ("read", "copy"):
            one = found[kind, level, 1]
            every = max(found.get((kind, level, host.cores), one), one)
            rates[kind] = (one, every)
        read, copy = rates["read"], rates["copy"]
        if farther is not None:
            read = (max(read[0], farther.read_one), max(read[1], farther.read_all))
            copy = (max(copy[0], farther.copy_one), max(copy[1], farther.copy_all))
        out.append(Level(size, read[0], copy[0], read[1], copy[1]))
    levels = tuple(reversed(out))
    return Levels(levels, _reach(host, best, levels))


def _reach(host: HostInfo, best: Mapping[Kernel, float], levels: tuple[Level, ...]) -> int:
    """The largest part of the last cache that is still read faster than halfway (in ratio) to main memory:
    on a shared machine, less than its size."""
    reach = 0
    for size in reach_sizes(host):
        rate = sweeps(size) * (size // 4 * 4) / best[Kernel("read", (size,))]
        if reach and rate < math.sqrt(levels[2].read_one * levels[3].read_one):
            break
        reach = size
    return reach
