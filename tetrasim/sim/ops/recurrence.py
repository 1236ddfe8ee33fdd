"""`Recurrence`: a body that runs once per step of a sequence, with state handed from step to step.

Inputs are the values that stay, the sequences that are sliced, and the first states; outputs are the results
of every step, joined, and the last states. The body is a graph: its inputs are the values that stay, one
slice of every sequence and the states; its outputs one piece of every joined result and the next states.

It is one kernel: sequences are read once and results written once, and the state stays where it is updated
(registers, a local memory), as in the scans of Mamba (arXiv 2312.00752) and of gated linear attention.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from tetrasim.sim.ir.graph import Graph, Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import Arr, Arrays, Attrs, OpDef, ShapeError, Types, have, need, reads, writes
from tetrasim.sim.ops.work import Vector, Work, WorkKind


@dataclass(frozen=True, slots=True)
class Slices:
    """What step t takes of a sequence: `width` elements of `axis` from `first + t * stride`; `drops`: the
    axis, of one element, is left out."""

    axis: int
    first: int
    stride: int
    width: int = 1
    drops: bool = False

    def at(self, t: int) -> slice:
        """Its part of the axis."""
        start = self.first + t * self.stride
        return slice(start, start + self.width)


@dataclass(frozen=True, eq=False)
class Body:
    """One step. Its inputs in order: what stays, one slice per sequence, the states; its outputs: one piece
    per joined result, then the next states. `joined`: the axis along which pieces are joined."""

    graph: Graph
    steps: int
    sequences: tuple[Slices, ...]
    joined: tuple[int, ...]

    @property
    def states(self) -> int:
        return len(self.graph.outputs) - len(self.joined)

    @property
    def stays(self) -> int:
        return len(self.graph.inputs) - len(self.sequences) - self.states

    def __str__(self) -> str:
        ops = Counter(node.op for node in self.graph.nodes)
        return f"{self.steps} x ({', '.join(f'{n} {op}' for op, n in sorted(ops.items()))})"


def body_of(attrs: Attrs) -> Body:
    """The body among a node's attributes."""
    body = attrs.get("body")
    if not isinstance(body, Body):
        raise ShapeError("a recurrence needs a body")
    return body


def _infer(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    body = body_of(attrs)
    for i, sliced in enumerate(body.sequences):
        size = need(types, body.stays + i).shape[sliced.axis]
        last = sliced.at(body.steps - 1)
        if min(sliced.first, last.start) < 0 or max(sliced.first + sliced.width, last.stop) > size:
            raise ShapeError(f"{body.steps} steps do not fit a sequence of {size}")
    pieces = body.graph.outputs[: len(body.joined)]
    out = []
    for piece, axis in zip(pieces, body.joined, strict=True):
        shape = piece.type.shape
        whole = (*shape[:axis], shape[axis] * body.steps, *shape[axis + 1 :])
        out.append(replace(piece.type, shape=whole))
    return (*out, *(v.type for v in body.graph.outputs[len(body.joined) :]))


def _reference(arrays: Arrays, attrs: Attrs, arithmetic: Arithmetic) -> tuple[Arr, ...]:
    from tetrasim.sim.ir.interpreter import interpret

    body = body_of(attrs)
    given = [have(arrays, i) for i in range(len(body.graph.inputs))]
    stays = given[: body.stays]
    sequences = given[body.stays : body.stays + len(body.sequences)]
    states = given[body.stays + len(body.sequences) :]
    names = [v.name for v in body.graph.inputs]
    made: list[list[Arr]] = [[] for _ in body.joined]
    for t in range(body.steps):
        pieces = []
        for x, sliced in zip(sequences, body.sequences, strict=True):
            taken = x[(*(slice(None),) * sliced.axis, sliced.at(t))]
            pieces.append(np.squeeze(taken, sliced.axis) if sliced.drops else taken)
        fed = dict(zip(names, (*stays, *pieces, *states), strict=True))
        found = interpret(body.graph, fed, arithmetic)
        results = [found[v.name] for v in body.graph.outputs]
        states = results[len(body.joined) :]
        for stack, piece in zip(made, results, strict=False):
            stack.append(piece)
    joined = (np.concatenate(s, axis=axis) for s, axis in zip(made, body.joined, strict=True))
    return (*joined, *states)


def step_works(graph: Graph) -> tuple[Work, ...]:
    """The work of every node of a body."""
    from tetrasim.sim.ops.registry import work_of

    return tuple(work_of(node) for node in graph.nodes)


def _work(node: Node) -> Work:
    """VECTOR work: the operations of all steps; a row is what one state row goes through, step after step."""
    body = body_of(node.attrs)
    ops: Counter[str] = Counter()
    for work in step_works(body.graph):
        for kind, count in work.vector.ops if work.vector is not None else ():
            ops[kind] += count * body.steps
        for kind in ("add", "mul") if work.macs else ():
            ops[kind] += work.macs * body.steps
    states = [v for v in body.graph.outputs[len(body.joined) :]]
    largest = max(states, key=lambda v: v.type.elements, default=body.graph.outputs[0])
    cols = largest.type.shape[-1] if largest.type.shape else 1
    rows = max(largest.type.elements // max(cols, 1), 1)
    vector = Vector(rows, cols * body.steps, tuple(sorted(ops.items())), steps=body.steps)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=vector)


OPS = {"Recurrence": OpDef(_infer, _reference, _work)}
