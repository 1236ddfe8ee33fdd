"""Timing many small kernels on a machine that is not quiet: in rounds, and never one after the other.

Other load comes in phases of seconds (a neighbour on the same core, a lower clock, a shared memory bus) and
can only slow a kernel down. A kernel that is timed once lies in one phase; here every probe gets a few
milliseconds per round and many rounds, so that all of them meet the same phases, and the best visit of each
counts. Between probes a fixed reference kernel is timed: how often it is slower than its best says how busy
the machine was. When most of the time is spent, only probes that have not settled are visited again: those
whose two best visits differ, or whose best visit fell into a slow phase.

A kernel of several threads waits for the slowest of them, so one core that another program holds spoils it,
and at a steady load no run is free of that. What other programs used is counted in every round; a kernel of
several threads that met no quiet round is marked, and its time is not to be believed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

VISIT_S = 0.008
SPIN_S = 0.06  # how long onnxruntime's threads look for more work before they sleep (seen: 50 ms)
AGREEMENT = 1.02  # the second best visit, relative to the best, of a probe that has settled
REFERENCE_RUNS = 4  # of the reference beside each visit
SLOW = 1.05  # a reference this much slower than its best marks a slow phase
QUIET_CORES = (
    0.5  # that other programs may use in a round that counts as quiet: every core is free half the time
)
FIRST_SHARE = 0.6  # of the time, for rounds over all probes
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Probe(Generic[Key]):
    """A kernel to time, at least once per visit and for `visit_s`; one of several threads leaves them
    spinning for a while. `warm`: run it once before, for what it finds in caches."""

    key: Key
    run: Callable[[], object]
    visit_s: float = VISIT_S
    threads: int = 1
    warm: bool = True


@dataclass(frozen=True, slots=True)
class Drift:
    """The reference kernel over a session: its best time, and how its other times compare."""

    visits: int
    best_s: float
    median_slowdown: float  # median time over the best
    slow_share: float  # part of the visits slower than `SLOW` times the best


@dataclass(frozen=True)
class Timings(Generic[Key]):
    """Best seconds per probe. `unsettled`: probes whose best time was seen in one visit only; `disturbed`:
    those of several threads that met no quiet round; `other_cores`: what other programs used, on average."""

    best_s: dict[Key, float]
    rounds: int
    unsettled: frozenset[Key]
    disturbed: frozenset[Key]
    other_cores: float
    drift: Drift


@dataclass
class _Visits:
    """(seconds, seconds of the reference beside it) per visit."""

    seen: list[tuple[float, float]] = field(default_factory=list)
    quiet: bool = False

    def settled(self, reference_s: float) -> bool:
        if len(self.seen) < 2:
            return False
        (best, beside), (second, _) = sorted(self.seen)[:2]
        return self.quiet and second <= AGREEMENT * best and beside <= SLOW * reference_s


def time_in_rounds(
    probes: Sequence[Probe[Key]],
    reference: Callable[[], object],
    budget_s: float,
    progress: Callable[[float], None] | None = None,
) -> Timings[Key]:
    """Best time of each probe within about `budget_s` seconds (at least one round, however long it takes).

    Args:
        probes: with distinct keys; each is visited once per round, in order.
        reference: a kernel of some 0.1 ms, timed before each visit.
        progress: called with the fraction of the budget used.
    """
    visits = {probe.key: _Visits(quiet=probe.threads == 1) for probe in probes}
    beside: list[float] = []
    began, rounds = time.perf_counter(), 0
    others, due, used = OtherLoad(), probes, 0.0
    reference()
    while due and used < 1:
        this = OtherLoad()
        spinning = False
        for probe in due:
            if spinning:
                time.sleep(SPIN_S)
            spinning = probe.threads > 1
            beside.append(min(_seconds(reference) for _ in range(REFERENCE_RUNS)))
            visits[probe.key].seen.append((visit(probe), beside[-1]))
            used = (time.perf_counter() - began) / budget_s
            if used > 1 and rounds:
                break
        if this.cores() < QUIET_CORES:
            for probe in due:
                visits[probe.key].quiet = True
        rounds += 1
        if progress is not None:
            progress(min(used, 1.0))
        if used > FIRST_SHARE:
            due = [p for p in probes if not visits[p.key].settled(min(beside))]
    return Timings(
        {key: min(v.seen)[0] for key, v in visits.items()},
        rounds,
        frozenset(key for key, v in visits.items() if not v.settled(min(beside))),
        frozenset(key for key, v in visits.items() if not v.quiet),
        others.cores(),
        drift_of(beside),
    )


def visit(probe: Probe[Key]) -> float:
    """Best seconds of a few runs, after one that brings code and data close."""
    if probe.warm:
        probe.run()
    best, began = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - began < probe.visit_s:
        best = min(best, _seconds(probe.run))
    return best


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) * 1e-9


def drift_of(seconds: Sequence[float]) -> Drift:
    """What repeated times of one fixed kernel say about the machine."""
    best = min(seconds)
    ordered = sorted(seconds)
    slow = sum(s > SLOW * best for s in seconds)
    return Drift(len(seconds), best, ordered[len(ordered) // 2] / best, slow / len(seconds))


class OtherLoad:
    """Cores that everything but this process used since this object was made (Linux; elsewhere none)."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy, self._own = _busy_s(), time.process_time()

    def cores(self) -> float:
        """Mean number of cores, time stolen from a virtual machine included."""
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        if not self._busy:
            return 0.0
        return max(_busy_s() - self._busy - (time.process_time() - self._own), 0.0) / elapsed


def _busy_s() -> float:
    """Seconds that all cores were busy since boot: every column but idle and waiting; 0 where unknown."""
    try:
        columns = [int(c) for c in Path("/proc/stat").read_text(encoding="ascii").split("\n")[0].split()[1:9]]
        return (sum(columns) - columns[3] - columns[4]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
