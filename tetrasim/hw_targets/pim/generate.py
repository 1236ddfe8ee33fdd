"""A whole generation, every token at its own context, with DRAM state and refresh phase carried from token
to token.

Nodes that do not depend on the context are priced once. Of those that do, nodes with the same op, attributes,
shapes and slopes form one class (the same layer repeated), so each class is priced once per context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.target import Aspect
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.cosim import Totals
from tetrasim.hw_targets.pim.items import Placement, item_of, placement_of
from tetrasim.hw_targets.pim.machine import COMPONENTS, LEVELS, machine
from tetrasim.hw_targets.pim.parts import PART_NAMES
from tetrasim.hw_targets.pim.price_steps import planned, steps_of
from tetrasim.hw_targets.pim.schedule import Plan, build_plan, run_plan
from tetrasim.hw_targets.pim.steps import Step
from tetrasim.sim.energy.static import add_static_energy
from tetrasim.sim.engine.program import PIPELINE_PART, RELEASE_PART
from tetrasim.sim.engine.timeline import RunTotals
from tetrasim.sim.ir.family import GraphFamily
from tetrasim.sim.ir.graph import Graph, Node
from tetrasim.units import cycles_to_ps

if TYPE_CHECKING:
    from numpy.typing import NDArray


def run_family(family: GraphFamily, contexts: Sequence[int], config: PimConfig) -> tuple[Plan, Totals]:
    """Run the family's graphs one after the other on one system; sums in channel clocks, and what ran."""
    plan = _plan(family, tuple(contexts), planned(config))
    return plan, run_plan(plan, machine(config), len(family.base.nodes))


@lru_cache(maxsize=16)
def _plan(family: GraphFamily, contexts: tuple[int, ...], used: Aspect[PimConfig]) -> Plan:
    """The steps of every run; the same whatever clocks, powers and refresh are."""
    placement, members, node_class = _classes(family)
    steps = _class_steps(family, members, contexts, placement, used.config)
    return build_plan(steps, family.base.predecessors, node_class, used.config.serial)


def simulate_runs(family: GraphFamily, contexts: Sequence[int], config: PimConfig) -> RunTotals:
    """`Target.simulate_runs`: every run at its own context, picoseconds and picojoules."""
    on = machine(config)
    base = family.base
    plan, out = run_family(family, contexts, config)
    hz = on.resources[0].clock_hz
    bounds = [cycles_to_ps(int(c), hz) for c in out.start]
    total_ps: NDArray[np.int64] = np.diff(bounds).astype(np.int64)
    ps = on.device.tck_ps
    zeros = np.zeros((len(contexts), 2), dtype=np.int64)
    energy = out.energy.copy()
    add_static_energy(on.static_power_w, COMPONENTS, total_ps, energy)
    return RunTotals(
        total_ps=total_ps,
        part_names=(*PART_NAMES, PIPELINE_PART, RELEASE_PART),
        part_ps=np.concatenate([out.part * ps, zeros], axis=1),
        component_names=COMPONENTS,
        energy_pj=energy,
        level_names=LEVELS,
        level_bytes=out.nbytes,
        resource_names=tuple(r.name for r in on.resources),
        busy_ps=out.busy * ps,
        macs=out.macs,
        tasks=np.full(len(contexts), len(plan.schedule.cls), dtype=np.int64),
        node_ps=out.node_path * ps,
        node_busy_ps=out.node_busy * ps,
        node_energy_pj=out.node_energy,
        node_bytes=out.node_bytes,
        node_macs=out.node_macs,
        node_part_ps=np.concatenate(
            [out.node_part * ps, np.zeros((len(base.nodes), 2), dtype=np.int64)], axis=1
        ),
    )


@lru_cache(maxsize=64)
def _classes(family: GraphFamily) -> tuple[Placement, tuple[Node, ...], tuple[int, ...]]:
    """What does not depend on the system: placement, one node of every class, the class of every node."""
    placement = placement_of(family.base)
    classes: dict[object, int] = {}
    members: list[Node] = []
    node_class: list[int] = []
    for node in family.base.nodes:
        key = _class_key(node, family, placement)
        if key not in classes:
            classes[key] = len(members)
            members.append(node)
        node_class.append(classes[key])
    return placement, tuple(members), tuple(node_class)


def _class_key(node: Node, family: GraphFamily, placement: Placement) -> object:
    """Equal keys mean equal items at every context: shapes are affine in it."""
    values = (*node.inputs, None, *node.outputs)
    return (
        node.op,
        tuple(sorted((k, v) for k, v in node.attrs.items())),
        tuple(
            None
            if v is None
            else (v.type.shape, family.slopes.get(v, ()), v.type.bits, v.type.kind.value, v.role.value)
            for v in values
        ),
        tuple(sorted((key, s) for (n, key), s in family.attr_slopes.items() if n is node))
        if any(n is node for n, _ in family.attr_slopes)
        else (),
        len(set(node.inputs)),
        tuple(v.name in placement.column_major for v in node.outputs),
        node.name in placement.resident,
    )


def _class_steps(
    family: GraphFamily,
    members: Sequence[Node],
    contexts: Sequence[int],
    placement: Placement,
    config: PimConfig,
) -> list[list[tuple[Step, ...]]]:
    """Per class and run, the steps of its node at that run's context."""
    moving = [n for n in members if any(v in family.slopes for v in (*n.inputs, *n.outputs) if v is not None)]
    part = _restricted(family, moving)
    by_context = [{n.name: n for n in part.at(c).nodes} if moving else {} for c in contexts]
    names = {n.name for n in moving}
    out: list[list[tuple[Step, ...]]] = []
    for node in members:
        if node.name in names:
            out.append([steps_of(item_of(at[node.name], placement), config) for at in by_context])
        else:
            out.append([steps_of(item_of(node, placement), config)] * len(contexts))
    return [_aligned(row) for row in out]


def _restricted(family: GraphFamily, nodes: Sequence[Node]) -> GraphFamily:
    """The family with only these nodes, so that moving it to another context is cheap."""
    used = {v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None}
    base = Graph(family.base.name, tuple(nodes), (), (), (), family.base.dims)
    kept = {n.name for n in nodes}
    return replace(
        family,
        base=base,
        slopes={v: s for v, s in family.slopes.items() if v in used},
        attr_slopes={(n, k): s for (n, k), s in family.attr_slopes.items() if n.name in kept},
    )


_NOTHING = Step("nothing")


def _aligned(row: list[tuple[Step, ...]]) -> list[tuple[Step, ...]]:
    """The same number of steps in every run (a longer context may add a partial sum): pad with empty ones."""
    most = max(len(steps) for steps in row)
    return [(*steps, *([_NOTHING] * (most - len(steps)))) for steps in row]
