"""Where a resource's idle time goes: each gap before a task is charged to what that task waited for.

A resource's time from zero to the end of the run is its busy time, plus the gaps before its tasks by the
resource that produced what the task waited for (or by its release time), plus the tail after its last task.
The rows of one resource sum exactly to the run's total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.engine.timeline import Cause

if TYPE_CHECKING:
    from tetrasim.sim.engine.program import Program
    from tetrasim.sim.engine.timeline import Timeline

RELEASE = "release time"
TAIL = "nothing left to do"


@dataclass(frozen=True, slots=True)
class Stalls:
    """One resource, integer ps: `busy_ps` plus all `waits` is the run's total."""

    resource: str
    busy_ps: int
    waits: tuple[tuple[str, int], ...]  # (what it waited for, ps), largest first


def stalls(program: Program, timeline: Timeline) -> tuple[Stalls, ...]:
    """Busy time and idle time by cause of every resource, for programs served in order by single servers."""
    total = timeline.total_ps
    out = []
    for s, resource in enumerate(program.resources):
        mine = np.flatnonzero(program.resource == s)
        waits: dict[str, int] = {}
        until = busy = 0
        for i in mine.tolist():
            gap = int(timeline.start_ps[i]) - until
            if gap > 0:
                cause = _cause(program, timeline, i)
                waits[cause] = waits.get(cause, 0) + gap
            busy += int(timeline.free_ps[i] - timeline.start_ps[i])
            until = int(timeline.free_ps[i])
        if total > until:
            waits[TAIL] = total - until
        ranked = sorted(waits.items(), key=lambda item: (-item[1], item[0]))
        out.append(Stalls(resource.name, busy, tuple(ranked)))
    return tuple(out)


def _cause(program: Program, timeline: Timeline, task: int) -> str:
    if timeline.cause[task] == Cause.START:
        return RELEASE
    return f"waiting for {program.resources[program.resource[timeline.cause_task[task]]].name}"
