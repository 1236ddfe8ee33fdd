"""FIFO depths: enough for full speed, or the least that runs at all.

Latency is not monotone in depth (a deeper FIFO becomes a RAM with one more cycle, and rigid pipelines freeze
at
other moments), so nothing here bisects: every depth that is returned was simulated with all the others in
place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tetrasim.hw_targets.fpga.dataflow.kernel import Run, simulate
from tetrasim.hw_targets.fpga.dataflow.network import SHIFT_REGISTER_DEPTH, Network

BRAM_WORDS = 512  # a BRAM18 is 512 x 36
EXTRA_ENTRIES = (0, 1, 2, 4)


@dataclass(frozen=True, eq=False)
class Sized:
    """A network whose depths were simulated; `first` and `last` are output cycles of the frames."""

    network: Network
    run: Run
    simulations: int


def unbounded(network: Network, frames: int) -> Network:
    """Every FIFO deep enough for all tokens of all frames: no back-pressure."""
    tokens = [put.tokens for _, put in network.writers()]
    depths = tuple(max(t * frames + f.initial, 1) for t, f in zip(tokens, network.fifos, strict=True))
    return network.with_depths(depths)


def full_speed(network: Network, frames: int) -> Sized:
    """Depths at the highest occupancy of a run without back-pressure, or a few entries more: the first that
    is
    slower neither to the first result nor between results. Falls back to depths for all tokens."""
    wide = unbounded(network, frames)
    free = simulate(wide, frames)
    if free.status != 0:
        return Sized(wide, free, 1)
    for tried, extra in enumerate(EXTRA_ENTRIES):
        depths = tuple(max(int(h) + extra, SHIFT_REGISTER_DEPTH) for h in free.highest)
        trial = network.with_depths(depths)
        run = simulate(trial, frames)
        no_slower = run.cycles <= free.cycles and after_first(trial, run) <= after_first(wide, free)
        if run.status == 0 and no_slower:
            return Sized(trial, run, tried + 2)
    return Sized(wide, free, len(EXTRA_ENTRIES) + 1)


def after_first(network: Network, run: Run) -> int:
    """Cycles from the end of the first inference to the end of the last."""
    sinks = [a for a, actor in enumerate(network.actors) if not actor.writes]
    first = max((int(run.done[run.offset[a] + network.actors[a].firings - 1]) for a in sinks), default=0)
    return run.cycles - first


def smallest(network: Network, frames: int, *, slack_cycles: int | None = 0, limit: int = 4000) -> Sized:
    """Depths that cannot be lowered one at a time without going beyond `slack_cycles` over the full-speed run
    (None: as long as it does not deadlock). Every candidate below the current depth is tried, from the
    smallest;
    `limit` bounds the simulations, the widest FIFOs first."""
    sized = full_speed(network, frames)
    budget = None if slack_cycles is None else sized.run.cycles + slack_cycles
    network, run, used = sized.network, sized.run, sized.simulations
    bits = np.array([f.bits * d for f, d in zip(network.fifos, network.depths, strict=True)])
    changed = True
    while changed and used < limit:
        changed = False
        for f in np.argsort(-bits, kind="stable"):
            for depth in _candidates(network.depths[f], network.fifos[f].initial):
                trial = network.with_depths((*network.depths[:f], depth, *network.depths[f + 1 :]))
                attempt = simulate(trial, frames)
                used += 1
                if attempt.status == 0 and (budget is None or attempt.cycles <= budget):
                    network, run, changed = trial, attempt, True
                    break
                if used >= limit:
                    break
            if used >= limit:
                break
    return Sized(network, run, used)


def _candidates(depth: int, initial: int) -> list[int]:
    """Depths below `depth` worth a trial: all small ones, then powers of two and RAM breakpoints."""
    small = range(max(initial, 1), min(depth, 17))
    large = [2**k for k in range(5, 24)] + [BRAM_WORDS * k for k in range(1, 64)]
    return sorted(
        {*small, *(d for d in large if initial <= d < depth), *([depth - 1] if depth > 1 else [])} - {0}
    )
