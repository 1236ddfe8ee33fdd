"""Topological order. ONNX demands it, but files in which nodes stand before those that feed them exist, and
runtimes sort them. A file whose nodes cannot be sorted is cyclic or incomplete, and is refused."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tetrasim.errors import UserError

if TYPE_CHECKING:
    import onnx


def sort_nodes(graph: onnx.GraphProto, where: str, *, inside: bool = False) -> None:
    """Bring the nodes of `graph` into topological order, in place; nodes keep their order where it is free.
    `inside`: the body of a node, which may read values from around it.

    Raises:
        UserError: naming the node: a cycle, a duplicate output, or a value that nothing computes.
    """
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    made = _producers(graph, known, where)
    reads = [[n for n in dict.fromkeys(_names_read(node)) if n not in known] for node in graph.node]
    for node, names in zip(graph.node, reads, strict=True):
        missing = [n for n in names if n not in made and n in node.input and not inside]
        if missing:
            raise UserError(
                f"node '{node.name or node.op_type}' reads '{missing[0]}', which nothing computes",
                where=where,
                hint="the file is incomplete: export it again",
            )
    before = [{made[n] for n in names if n in made} for names in reads]
    order = _order(before)
    if len(order) < len(before):
        stuck = graph.node[_on_a_cycle(before, set(order))]
        raise UserError(
            f"the graph has a cycle through node '{stuck.name or stuck.op_type}'",
            where=where,
            hint="an ONNX graph must be acyclic",
        )
    if order != list(range(len(order))):
        nodes = [type(n).FromString(n.SerializeToString()) for n in graph.node]
        del graph.node[:]
        graph.node.extend(nodes[i] for i in order)


def _producers(graph: onnx.GraphProto, known: set[str], where: str) -> dict[str, int]:
    made: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in known or name in made):
                raise UserError(
                    f"node '{node.name or node.op_type}' computes '{name}', which exists already",
                    where=where,
                    hint="every ONNX value has one producer: export it again",
                )
            if name:
                made[name] = i
    return made


def _names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Inputs of a node, and what the graphs inside it read from around them."""
    yield from node.input
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            own = {v.name for v in body.input} | {t.name for t in body.initializer}
            own |= {name for inner in body.node for name in inner.output}
            for inner in body.node:
                yield from (name for name in _names_read(inner) if name not in own)
            yield from (v.name for v in body.output if v.name not in own)


def _order(before: list[set[int]]) -> list[int]:
    """Indices in topological order, the smallest ready one first; fewer than all when there is a cycle."""
    waiting = [len(b) for b in before]
    after: list[list[int]] = [[] for _ in before]
    for i, needed in enumerate(before):
        for j in needed:
            after[j].append(i)
    ready = [i for i, n in enumerate(waiting) if not n]
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in after[i]:
            waiting[j] -= 1
            if not waiting[j]:
                heapq.heappush(ready, j)
    return order


def _on_a_cycle(before: list[set[int]], done: set[int]) -> int:
    """The first node of a cycle: going back from a node that waits, the first one that comes again."""
    at = next(i for i in range(len(before)) if i not in done)
    seen: dict[int, None] = {}
    while at not in seen:
        seen[at] = None
        at = min(j for j in before[at] if j not in done)
    path = list(seen)
    return min(path[path.index(at) :])
