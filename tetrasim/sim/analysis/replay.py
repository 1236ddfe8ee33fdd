"""What a change of the hardware would save, found by serving the same program again with other durations.

A replay scales one part of every task (or every task of one resource) and re-runs the in-order kernel: what
was hidden behind the part appears, so the gain is never more than what the machine would show. The program's
tasks and order stay as they are; a mapping that a target would choose anew is a new simulation, not a replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.engine.static import durations_ps, serve, to_ps

if TYPE_CHECKING:
    from tetrasim.sim.engine.program import Program


def replay_part(program: Program, part: str, factor: float) -> int:
    """Total ps when every task spends `factor` times as long on `part` (0 removes it)."""
    busy, latency = durations_ps(program)
    cycles = program.part_cycles[:, program.part_names.index(part)]
    spent = to_ps(program, np.minimum(cycles, program.busy_cycles))
    change = np.rint(spent * (factor - 1.0)).astype(np.int64)
    change = np.maximum(change, -busy)
    return serve(program, busy + change, latency + change).total_ps


def replay_resource(program: Program, resource: str, factor: float) -> int:
    """Total ps when `resource` takes `factor` times as long for every task it serves."""
    names = [r.name for r in program.resources]
    mine = program.resource == names.index(resource)
    busy, latency = durations_ps(program)
    change = np.where(mine, np.rint(busy * (factor - 1.0)), 0.0).astype(np.int64)
    return serve(program, busy + change, latency + change).total_ps


def replay_all(program: Program, factor: float) -> int:
    """Total ps when every task takes `factor` times as long (dependencies and order unchanged)."""
    busy, latency = durations_ps(program)
    change = np.rint(busy * (factor - 1.0)).astype(np.int64)
    return serve(program, busy + change, latency + change).total_ps
