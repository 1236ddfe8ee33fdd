"""Replacing values and nodes of an immutable graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tetrasim.sim.ir.graph import Graph, Node, State, Value, live


def substitute(graph: Graph, values: Mapping[Value, Value]) -> Graph:
    """`graph` with every occurrence of a key replaced by its value."""
    if not values:
        return graph

    def new(value: Value) -> Value:
        return values.get(value, value)

    nodes = tuple(replace_values(n, values) for n in graph.nodes)
    states = tuple(State(new(s.before), new(s.after)) for s in graph.states)
    return replace(
        graph,
        nodes=nodes,
        inputs=tuple(map(new, graph.inputs)),
        outputs=tuple(map(new, graph.outputs)),
        states=states,
    )


def replace_values(node: Node, values: Mapping[Value, Value]) -> Node:
    """`node` with its values replaced; the same object when none is."""
    if not any(v in values for v in (*node.inputs, *node.outputs) if v is not None):
        return node
    return replace(
        node,
        inputs=tuple(None if v is None else values.get(v, v) for v in node.inputs),
        outputs=tuple(values.get(v, v) for v in node.outputs),
    )


def with_nodes(graph: Graph, nodes: Sequence[Node]) -> Graph:
    """`graph` with other nodes, dead ones dropped."""
    return replace(graph, nodes=live(list(nodes), graph.outputs))
