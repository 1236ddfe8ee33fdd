"""The trace of a result: which runs of each phase it shows, and when each of them begins.

A generation's trace holds every step while the slices stay below `MOST_SLICES`; beyond that evenly chosen
ones, the first and the last among them, each where it lies in the whole run. Steps are simulated again for
their timelines, each by itself (a result keeps only totals).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from tetrasim.flow.phases import lowered_phases
from tetrasim.reports.perfetto import MOST_SLICES, TracedRun, chosen_runs, to_pftrace
from tetrasim.sim.engine.runs import simulate_one

if TYPE_CHECKING:
    from tetrasim.flow.loading import LoadedModel
    from tetrasim.flow.setup import Setup
    from tetrasim.sim.result import Result
    from tetrasim.sim.workload import Workload


def trace_of(result: Result, model: LoadedModel, setup: Setup, workload: Workload) -> tuple[bytes, str]:
    """The serialised trace, and what to say in the report when it does not show every step."""
    shown, omitted = traced_phases(result)
    return to_pftrace(traced_runs(model, setup, workload, shown)), omitted


@dataclass(frozen=True)
class ShownPhase:
    """Which runs of a phase its trace shows, and when each of them begins."""

    name: str
    runs: int
    shown: tuple[int, ...]
    begin_ps: tuple[int, ...]


def traced_phases(result: Result) -> tuple[tuple[ShownPhase, ...], str]:
    """What the trace shows of each phase, one after the other in time; and what to say when that is not
    every run."""
    begin_ps, left = 0, MOST_SLICES
    found: list[ShownPhase] = []
    omitted = ""
    for phase in result.phases:
        each = -(-phase.tasks // max(phase.runs, 1))
        shown = chosen_runs(phase.runs, each, left)
        left -= each * len(shown)
        begins = list(accumulate((round(ns * 1000) for ns in phase.run_ns), initial=begin_ps))
        begin_ps = begins[-1]
        found.append(ShownPhase(phase.name, phase.runs, shown, tuple(begins[i] for i in shown)))
        if len(shown) < phase.runs:
            omitted = (
                f"trace.pftrace shows {len(shown)} of the {phase.runs} {phase.name} steps, evenly spaced"
            )
    return tuple(found), omitted


def traced_runs(
    model: LoadedModel, setup: Setup, workload: Workload, shown: Sequence[ShownPhase]
) -> Iterator[TracedRun]:
    """The runs of each phase that the trace shows, each simulated by itself, where the whole run has it."""
    for (phase, family, contexts), show in zip(lowered_phases(model, setup, workload), shown, strict=True):
        some = f" ({len(show.shown)} of {show.runs} steps)" if len(show.shown) < show.runs else ""
        # The last runs were lowered last: backwards, they are found in the caches before they are evicted.
        graphs = {run: family.at(contexts[run]) for run in reversed(show.shown)}
        served = {
            run: simulate_one(lambda g: setup.target.lower(g, setup.config), graph)
            for run, graph in graphs.items()
        }
        end_ps = 0
        for run, due_ps in zip(show.shown, show.begin_ps, strict=True):
            program, timeline = served[run]
            # By itself a run may be longer than among others: the next one waits for it.
            begin_ps = max(due_ps, end_ps)
            end_ps = begin_ps + max(timeline.total_ps, int(timeline.free_ps.max(initial=0)))
            name = f"context {contexts[run]}" if phase.name == "decode" else phase.name
            count = setup.target.counters
            counters = () if count is None else count(graphs[run], setup.config, timeline)
            counters = tuple(c for c in counters if run == show.shown[0] or not c.once)
            label = f"{setup.preset} {phase.name}{some}"
            yield TracedRun(label, program, timeline, graphs[run], begin_ps, name, counters)
