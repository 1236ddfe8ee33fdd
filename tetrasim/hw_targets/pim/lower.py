"""Graph to `Program`: the co-simulation of one run, written down task by task.

A channel task's length depends on when it starts (refresh, bank and bus state), so lowering runs the graph
once from an idle system at clock 0 and records what each task took; serving the program in order gives the
same timeline again.
"""

from __future__ import annotations

import numpy as np

from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.items import item_of, placement_of
from tetrasim.hw_targets.pim.machine import COMPONENTS, LEVELS, machine
from tetrasim.hw_targets.pim.parts import PART_NAMES
from tetrasim.hw_targets.pim.price_steps import steps_of
from tetrasim.hw_targets.pim.schedule import Plan, build_plan, run_plan
from tetrasim.sim.engine.program import Program
from tetrasim.sim.ir.graph import Graph


def plan_of(graph: Graph, config: PimConfig) -> Plan:
    """The plan of one run of one graph."""
    placement = placement_of(graph)
    items = [item_of(node, placement) for node in graph.nodes]
    classes = {item: i for i, item in enumerate(dict.fromkeys(items))}
    steps = [[steps_of(item, config)] for item in classes]
    return build_plan(steps, graph.predecessors, [classes[i] for i in items], config.serial)


def lower(graph: Graph, config: PimConfig) -> Program:
    """One run from an idle system at clock 0, refreshes included."""
    on = machine(config)
    plan = plan_of(graph, config)
    out = run_plan(plan, on, len(graph.nodes))
    schedule = plan.schedule
    steps = [plan.steps[i] for i in plan.task_steps]
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(s.kind for s in steps))}
    busy = out.task_part.sum(axis=1)
    dep_start, dep_index = schedule.dep_start, schedule.dep_index
    if config.serial:
        dep_start, dep_index = _chained(dep_start, dep_index)
    return Program(
        target="pim",
        resources=on.resources,
        kind_names=tuple(kinds),
        part_names=PART_NAMES,
        level_names=LEVELS,
        component_names=COMPONENTS,
        kind=np.array([kinds[s.kind] for s in steps], dtype=np.int32),
        resource=np.array([int(s.on_channel) for s in steps], dtype=np.int32),
        node=schedule.node,
        busy_cycles=busy,
        latency_cycles=busy.copy(),
        dep_start=dep_start,
        dep_index=dep_index,
        part_cycles=out.task_part,
        level_bytes=out.task_bytes,
        energy_pj=out.task_energy,
        macs=np.array([s.macs for s in steps], dtype=np.int64),
        static_power_w=on.static_power_w,
    )


def _chained(
    dep_start: np.typing.NDArray[np.int64], dep_index: np.typing.NDArray[np.int32]
) -> tuple[np.typing.NDArray[np.int64], np.typing.NDArray[np.int32]]:
    """Every task waits for the one before it: PIM-GPT's serial instruction stream."""
    tasks = len(dep_start) - 1
    lists = [
        sorted({*dep_index[dep_start[t] : dep_start[t + 1]].tolist(), *([t - 1] if t else [])})
        for t in range(tasks)
    ]
    starts = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return starts, np.array([d for row in lists for d in row], dtype=np.int32)
