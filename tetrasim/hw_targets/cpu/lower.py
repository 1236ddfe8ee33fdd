"""A graph as the serial program of a graph runtime: one node after the other, each on all the threads.

onnxruntime and eager frameworks execute one node at a time; parallelism is inside a node. So there is one
resource, the cores together, and every node is one task whose cycles are booked by part.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise

from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import COMPONENTS, PARTS, Cost, cost_of
from tetrasim.hw_targets.cpu.machine import LEVELS, Machine, machine_of
from tetrasim.sim.engine.program import Block, Program, Resource, Task, assemble
from tetrasim.sim.engine.program import Machine as Vocabulary
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work, WorkKind


def lower(graph: Graph, config: CpuConfig) -> Program:
    """One task per node that does something; the first task also starts the run."""
    machine = machine_of(config)
    resident = resident_level(graph, machine)
    works = [work_of(node) for node in graph.nodes]
    blocks = [_block(work, machine, resident) for work in works]
    program = assemble(
        _vocabulary(machine),
        [_start(graph, machine), *blocks],
        ((), *(_after_start(p) for p in graph.predecessors)),
    )
    return replace(program, node=program.node - 1)  # the start of the run belongs to no node: -1


def resident_level(graph: Graph, machine: Machine) -> int:
    """The level that serves weights and state: the smallest that holds all of both and the activations
    that pass through between two uses."""
    return machine.level_for(graph.weight_bytes + graph.state_bytes + live_bytes(graph))


@lru_cache(maxsize=256)
def live_bytes(graph: Graph) -> int:
    """Largest sum of activations alive at once, in program order."""
    last = {v: max(users) for v, users in graph.consumers.items()}
    live = peak = sum(v.type.nbytes for v in graph.inputs)
    held = {s.before for s in graph.states} | {s.after for s in graph.states}
    live -= sum(v.type.nbytes for v in graph.inputs if v in held)
    for i, node in enumerate(graph.nodes):
        live += sum(v.type.nbytes for v in node.outputs if v not in held)
        peak = max(peak, live)
        dead = {v for v in (*node.inputs, *node.outputs) if v is not None and last.get(v, i) <= i}
        for v in dead - held:
            if v in graph.producer or v in graph.inputs:
                live -= v.type.nbytes
    return peak


def kind_name(work: Work) -> str:
    """What a trace calls the task."""
    return "idle" if work.kind is WorkKind.VIEW else str(work.kind)


def _start(graph: Graph, machine: Machine) -> Block:
    """Starting a run: check and wrap each fed and fetched value, enter the executor."""
    o = machine.config.overhead
    ns = o.run_ns + o.value_ns * (len(graph.inputs) + len(graph.outputs))
    cycles = round(ns * 1e-9 * machine.clock_hz)
    active_pj = machine.config.power.core_active_w * ns * 1e3
    parts = (("run overhead", cycles),)
    return Block((Task("run", "cores", cycles, parts, energy_pj=(("active cores", active_pj),)),))


def _after_start(predecessors: tuple[int, ...]) -> tuple[int, ...]:
    """Node indices moved by one, as the start of the run comes first; roots wait for it."""
    return tuple(p + 1 for p in predecessors) or (0,)


@lru_cache(maxsize=1 << 16)
def _block(work: Work, machine: Machine, resident: int) -> Block:
    cost = cost_of(work, machine, resident)
    if not cost.seconds:
        return Block()
    parts = whole_cycles(cost, machine.clock_hz)
    return Block(
        (
            Task(
                kind_name(work),
                "cores",
                sum(c for _, c in parts),
                parts,
                level_bytes=cost.level_bytes,
                energy_pj=cost.energy_pj,
                macs=cost.macs,
            ),
        )
    )


def whole_cycles(cost: Cost, clock_hz: int) -> tuple[tuple[str, int], ...]:
    """Integer cycles per part whose sum is the rounded total (running sums are rounded, not the parts)."""
    ends = [0, *(round(s * clock_hz) for s in accumulate(s for _, s in cost.seconds))]
    spans = [b - a for a, b in pairwise(ends)]
    return tuple((name, cycles) for (name, _), cycles in zip(cost.seconds, spans, strict=True))


@lru_cache(maxsize=64)
def _vocabulary(machine: Machine) -> Vocabulary:
    return Vocabulary(
        target="cpu",
        resources=(Resource("cores", machine.clock_hz),),
        part_names=PARTS,
        level_names=LEVELS,
        component_names=COMPONENTS,
        static_power_w=(("idle", machine.config.power.idle_w),),
    )
