"""The fast core of a simulation: a model's phases on a configured target, as totals without tables.

The order of work: the target's formats on every graph, the capacity check at the largest state, then lowering
and the engine for each phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tetrasim.errors import UserError
from tetrasim.sim.engine.runs import simulate_runs
from tetrasim.sim.ir.family import GraphFamily, transformed

if TYPE_CHECKING:
    from tetrasim.flow.loading import LoadedModel, ModelPhase
    from tetrasim.flow.setup import Setup
    from tetrasim.hw_targets.common.target import Capacity
    from tetrasim.sim.engine.timeline import RunTotals
    from tetrasim.sim.precision import Precision
    from tetrasim.sim.workload import Workload


@dataclass(frozen=True, eq=False)
class PhaseRun:
    """A phase as it ran: the family with the target's formats, the context of each run, and the totals."""

    name: str
    original: ModelPhase
    family: GraphFamily
    contexts: tuple[int, ...]
    totals: RunTotals


def settled(model: LoadedModel, setup: Setup, workload: Workload) -> Setup:
    """The setup with every choice that the target makes once for all graphs of the run."""
    if setup.target.settle is None:
        return setup
    graphs = [
        (phase.name, family.at(context))
        for phase, family, contexts in lowered_phases(model, setup, workload)
        for context in dict.fromkeys((contexts[0], contexts[-1]))
    ]
    return replace(setup, config=setup.target.settle(graphs, setup.config))


def run_phases(model: LoadedModel, setup: Setup, workload: Workload) -> tuple[PhaseRun, ...]:
    """Lower and simulate every phase: the fast core, without tables or numerics (design-space search).

    Raises:
        CapacityError: the model does not fit and the target has no other mapping.
        UnsupportedOpError: an op without a cost model.
    """
    runs = []
    for phase, family, contexts in lowered_phases(model, setup, workload):
        totals = run_totals(setup, family, contexts)
        runs.append(PhaseRun(phase.name, phase, family, contexts, totals))
    return tuple(runs)


def lowered_phases(
    model: LoadedModel, setup: Setup, workload: Workload
) -> list[tuple[ModelPhase, GraphFamily, tuple[int, ...]]]:
    """Each phase that the workload runs, with the target's formats, and the context of each of its runs."""
    precision = setup.target.precision(setup.config)
    out = []
    steps = tuple(workload.contexts(prefilled=any(phase.name == "prefill" for phase in model.phases)))
    for phase in model.phases:
        contexts = steps if phase.name == "decode" else (phase.family.base_context,)
        if contexts:
            out.append((phase, precise_family(phase.family, precision), contexts))
    if not out:
        raise UserError(f"'{model.name}' has nothing to run", hint="ask for at least one phase or token")
    return out


def capacity_of(phases: Sequence[tuple[ModelPhase, GraphFamily, tuple[int, ...]]], setup: Setup) -> Capacity:
    """What the model needs where its state is largest: the last run of the last phase."""
    _, family, contexts = phases[-1]
    return setup.target.capacity(family.at(contexts[-1]), setup.config)


def run_totals(setup: Setup, family: GraphFamily, contexts: Sequence[int]) -> RunTotals:
    """Lower and simulate one phase whose family has the target's formats."""
    target, config = setup.target, setup.config
    if target.simulate_runs is not None:
        return target.simulate_runs(family, contexts, config)
    return simulate_runs(lambda graph: target.lower(graph, config), family, contexts)


@lru_cache(maxsize=64)
def precise_family(family: GraphFamily, precision: Precision) -> GraphFamily:
    """The family with the target's element formats."""
    from tetrasim.sim.passes.precision import with_precision

    return transformed(family, with_precision(family.base, precision))
