"""A graph as the serial program of a graph runtime: one node after the other, each on all the threads.

onnxruntime and eager frameworks execute one node at a time; parallelism is inside a node. So there is one
resource, the cores together, and every node is one task whose cycles are booked by part.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from tetrasim.hw_targets.common.target import Aspect
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import COMPONENTS, FREE, Cost, cost_of
from tetrasim.hw_targets.cpu.machine import LEVELS, Machine, machine_of
from tetrasim.hw_targets.cpu.parts import PART_NAMES
from tetrasim.hw_targets.cpu.placement import Placement, placements
from tetrasim.sim.engine.program import (
    Block,
    Order,
    Program,
    Resource,
    Sharing,
    Task,
    columns_of,
    join,
    order_of,
    shared_by_host,
)
from tetrasim.sim.engine.program import Machine as Vocabulary
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.unmodelled import UNMODELLED
from tetrasim.sim.ops.work import Work, WorkKind


def lower(graph: Graph, config: CpuConfig) -> Program:
    """One task per node that does something; the first task also starts the run."""
    machine = machine_of(config)
    sizes = tuple([level.capacity_bytes for level in machine.levels])
    distinct, order = _placed(graph, Aspect((config.runtime, config.kv_append, sizes), config))
    blocks = [_start(graph, machine), *[_block(work, machine, at) for work, at in distinct]]
    vocabulary = _vocabulary(machine)
    program = join(vocabulary, columns_of(vocabulary, blocks), order)
    return replace(program, sharing=_sharing(graph, config.runtime))


@lru_cache(maxsize=512)
def _placed(graph: Graph, used: Aspect[CpuConfig]) -> tuple[tuple[tuple[Work, Placement], ...], Order]:
    """The distinct works with their placements, and the order of their blocks: the start of the run, which
    belongs to no node, comes first. A matter of the runtime and of sizes, whatever the speeds are."""
    works = runtime_works(graph, used.config.runtime)
    where = placements(graph, works, machine_of(used.config))
    pairs = tuple(zip(works, where, strict=True))
    place = {pair: i for i, pair in enumerate(dict.fromkeys(pairs), start=1)}
    places = (0, *(place[pair] for pair in pairs))
    return tuple(place), order_of(places, _wiring(graph), tuple(range(-1, len(works))))


@lru_cache(maxsize=512)
def runtime_works(graph: Graph, runtime: str) -> tuple[Work, ...]:
    """The work of each node as the runtime executes it: onnxruntime fuses a residual sum into the norm that
    alone reads it (SkipLayerNormalization); the sum then costs nothing and the norm reads both operands."""
    works = [work_of(node) for node in graph.nodes]
    if runtime != "onnxruntime":
        return tuple(works)
    for i, node in enumerate(graph.nodes):
        first = node.inputs[0] if node.inputs else None
        if node.op not in _NORMS or first is None or first not in graph.producer:
            continue
        at = graph.producer[first]
        shapes = {v.type.shape for v in graph.nodes[at].inputs if v is not None}
        alone = graph.consumers.get(first) == (i,) and first not in graph.outputs
        if (
            graph.nodes[at].op == "Add"
            and alone
            and shapes == {first.type.shape}
            and len(first.type.shape) == 3
        ):
            works[i] = replace(works[i], reads=(*works[at].reads, *works[i].reads[1:]))
            works[at] = Work(FUSED, WorkKind.VIEW, works[at].reads, works[at].writes)
    return tuple(works)


@lru_cache(maxsize=512)
def _sharing(graph: Graph, runtime: str) -> Sharing | None:
    """A sum that is fused into the norm that reads it has its share of the norm's task: of the time in
    proportion to operations, of the bytes to operands."""
    executed = runtime_works(graph, runtime)
    works = [work_of(node) for node in graph.nodes]
    hosts = list(range(len(works)))
    for i, node in enumerate(graph.nodes):
        if executed[i].op == FUSED:
            hosts[i] = graph.consumers[node.outputs[0]][0]
    operations = np.array([float(w.vector_ops) for w in works])
    nbytes = np.array([float(w.nbytes) for w in works])
    return shared_by_host(hosts, operations, nbytes, operations, np.zeros(len(works)))


_NORMS = ("LayerNormalization", "RMSNormalization")
FUSED = "fused"  # into another node: the runtime does not see it
# An op without semantics here counts as zero, as it is reported.
_UNSEEN = (FUSED, UNMODELLED)


def _start(graph: Graph, machine: Machine) -> Block:
    """Starting a run: check and wrap each fed and fetched value, enter the executor."""
    o = machine.config.overhead
    ns = o.run_ns + o.value_ns * (len(graph.inputs) + len(graph.outputs))
    cycles = round(ns * 1e-9 * machine.clock_hz)
    active_pj = machine.config.power.core_active_w * ns * 1e3
    parts = (("run overhead", cycles),)
    return Block((Task("run", "cores", cycles, parts, energy_pj=(("active cores", active_pj),)),))


@lru_cache(maxsize=512)
def _wiring(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Predecessors moved by one, as the start of the run comes first; roots wait for it."""
    return ((), *(tuple(p + 1 for p in before) or (0,) for before in graph.predecessors))


@lru_cache(maxsize=1 << 16)
def _block(work: Work, machine: Machine, placement: Placement) -> Block:
    cost = cost_of(work, machine, placement)
    if work.kind is WorkKind.VIEW and work.op not in _UNSEEN:
        cost = _called(machine)
    if not cost.seconds:
        return Block()
    parts = whole_cycles(cost, machine.clock_hz)
    return Block(
        (
            Task(
                str(work.kind),
                "cores",
                sum(c for _, c in parts),
                parts,
                level_bytes=cost.level_bytes,
                energy_pj=cost.energy_pj,
                macs=cost.macs,
            ),
        )
    )


def _called(machine: Machine) -> Cost:
    """A view moves nothing, but a graph runtime runs it like any other node."""
    o, power = machine.config.overhead, machine.config.power
    if machine.config.runtime != "onnxruntime":
        return FREE
    energy = (("active cores", power.core_active_w * o.node_ns * 1e3),)
    return Cost((("node overhead", o.node_ns * 1e-9),), (), energy, 0)


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
        part_names=PART_NAMES,
        level_names=LEVELS,
        component_names=COMPONENTS,
        static_power_w=(("idle", machine.config.power.idle_w),),
    )
