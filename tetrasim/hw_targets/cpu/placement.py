"""From which memory level each operand comes: reuse distances over the run.

A runtime executes nodes in order, so between two uses of a tensor lie the bytes that every node in between
touches. The smallest level that holds those bytes and the op's own serves the tensor (least recently used
replacement). Weights and incoming state were last touched one run ago: what lies in between is the whole
working set. New tensors are written to buffers that the arena recycles: they lie as far as what is alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from tetrasim.hw_targets.cpu.machine import DRAM
from tetrasim.sim.ir.graph import Graph, Node, Role, Value
from tetrasim.sim.ops.work import Work, WorkKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tetrasim.hw_targets.cpu.machine import Machine


@dataclass(frozen=True, slots=True)
class Placement:
    """Level (index into LEVELS) of each operand read, and of what is written."""

    reads: tuple[int, ...]
    writes: int

    def read(self, index: int) -> int:
        """Level of operand `index`; the farthest one where the op does not list its operands one by one."""
        return self.reads[index] if index < len(self.reads) else max(self.reads, default=self.writes)


def placed_alone(work: Work, machine: Machine) -> Placement:
    """The op repeated on its own: everything is where all of it fits."""
    level = machine.level_for(work.nbytes)
    return Placement((level,) * len(work.reads), level)


def placements(graph: Graph, works: Sequence[Work], machine: Machine) -> tuple[Placement, ...]:
    """One placement per node, in program order: a matter of capacities, whatever the speeds are."""
    capacities = tuple(level.capacity_bytes for level in machine.levels)
    return _placements(graph, tuple(works), capacities, machine.config.kv_append == "copy")


@lru_cache(maxsize=512)
def _placements(
    graph: Graph, works: tuple[Work, ...], capacities: tuple[float, ...], copies_state: bool
) -> tuple[Placement, ...]:
    def level_for(nbytes: float) -> int:
        return next((i for i in range(DRAM) if nbytes <= capacities[i]), DRAM)

    resident = level_for(graph.weight_bytes + graph.state_bytes + live_bytes(graph))
    before = [0, *accumulate(w.nbytes for w in works)]  # bytes touched before each node
    live = live_bytes(graph)
    out: list[Placement] = []
    for i, (node, work) in enumerate(zip(graph.nodes, works, strict=True)):
        if work.kind is WorkKind.VIEW:
            out.append(Placement((), 0))
            continue
        levels = []
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            made = _made_at(value, graph, copies_state)
            if made is None:
                levels.append(resident)
            else:
                levels.append(level_for(before[i + 1] - before[made]))
        written = resident if _is_state(node) else level_for(max(live, work.nbytes))
        out.append(
            Placement(tuple(levels) if len(levels) == len(work.reads) else (max(levels, default=0),), written)
        )
    return tuple(out)


def _made_at(value: Value, graph: Graph, copies_state: bool) -> int | None:
    """Index of the node whose run brought `value` close; None: it was last used in the run before."""
    if value.role in (Role.WEIGHT, Role.CONSTANT):
        return None
    if value.role is Role.STATE and not copies_state:
        return None
    made = graph.producer.get(value)
    if made is None:
        return None if value.role is Role.STATE else 0
    node = graph.nodes[made]
    source = node.inputs[0] if node.inputs else None
    if source is not None and (node.op in _VIEWS or node.attrs.get("absorbed", 0)):
        return _made_at(source, graph, copies_state)  # the node that wrote the bytes
    return made


_VIEWS = frozenset(("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"))


def _is_state(node: Node) -> bool:
    return any(v.role is Role.STATE for v in node.outputs)


def resident_level(graph: Graph, machine: Machine) -> int:
    """The level that serves weights and state: the smallest that holds all of both and the activations
    that pass through between two uses."""
    return machine.level_for(graph.weight_bytes + graph.state_bytes + live_bytes(graph))


@lru_cache(maxsize=256)
def live_bytes(graph: Graph) -> int:
    """Largest sum of activations alive at once, in program order."""
    last = {v: max(users) for v, users in graph.consumers.items()}
    held = {s.before for s in graph.states} | {s.after for s in graph.states}
    live = peak = sum(v.type.nbytes for v in graph.inputs if v not in held)
    for i, node in enumerate(graph.nodes):
        live += sum(v.type.nbytes for v in node.outputs if v not in held)
        peak = max(peak, live)
        dead = {v for v in (*node.inputs, *node.outputs) if v is not None and last.get(v, i) <= i}
        for v in dead - held:
            if v in graph.producer or v in graph.inputs:
                live -= v.type.nbytes
    return peak
