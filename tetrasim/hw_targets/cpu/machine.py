"""Rates derived once from a `CpuConfig`: bandwidth and reach of each memory level for the threads that run.

Where data lives follows from sizes. What one run leaves behind for the next (weights, state) is served by
the smallest level that holds *all* of it, because every run sweeps through it in the same order; what an
op's producer has just written is served by the smallest level that holds the op's own operands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tetrasim.hw_targets.cpu.config import CacheConfig, CpuConfig

LEVELS = ("L1", "L2", "L3", "DRAM")
DRAM = 3


@dataclass(frozen=True, slots=True)
class Level:
    """A memory level as the running threads see it together."""

    capacity_bytes: float
    bytes_per_s: float  # most that all running threads get
    core_bytes_per_s: float  # a single thread


@dataclass(frozen=True, eq=False, slots=True)
class Machine:
    """The levels of `config` under its own thread count; compared by identity (`machine_of` makes one)."""

    config: CpuConfig
    threads: int
    clock_hz: int
    levels: tuple[Level, ...]

    def level_for(self, nbytes: float) -> int:
        """Index of the smallest level that holds `nbytes`."""
        for i in range(DRAM):
            if nbytes <= self.levels[i].capacity_bytes:
                return i
        return DRAM

    def bandwidth(
        self, level: int, threads: int, core_slowdown: float = 1.0, shared_slowdown: float = 1.0
    ) -> float:
        """Bytes per second that `threads` get from `level`, reads and writes together; each core by itself is
        `core_slowdown` times slower than its best, all of them together `shared_slowdown` times."""
        at = self.levels[level]
        return min(at.core_bytes_per_s / core_slowdown * threads, at.bytes_per_s / shared_slowdown)


@lru_cache(maxsize=64)
def machine_of(config: CpuConfig) -> Machine:
    """The machine of a configuration; equal configurations share one object, so that prices are cached."""
    threads, clock = config.active_threads, config.clock_hz
    caches = tuple(_cache(c, threads, clock) for c in (config.l1, config.l2, config.l3))
    d = config.dram
    # Pages placed on one node are read through that node's controllers by every thread.
    share = 1.0 if d.placement == "interleaved" else 1.0 / d.numa_nodes
    total = d.bandwidth_bytes_per_s * share
    dram = Level(float(d.capacity_bytes), total, min(d.core_bandwidth_bytes_per_s, total))
    return Machine(config, threads, clock, (*caches, dram))


def _cache(cache: CacheConfig, threads: int, clock_hz: int) -> Level:
    one = cache.bytes_per_cycle * clock_hz
    total = one * threads
    if cache.total_bytes_per_s:
        total = min(total, cache.total_bytes_per_s)
    # Threads are placed compactly: a cluster fills before the next one, with its cache, is used.
    clusters = -(-threads // cache.cluster_cores)
    capacity = cache.bytes_per_core * threads + cache.shared_bytes * clusters
    return Level(float(capacity), total, min(one, total))
