"""Giving a graph the formats of a target.

What: every floating-point value gets the target's format for its role (weights, state, activations).
Why: bytes, capacity and numerics follow from it. When illegal: never; integers, booleans and values that
the file itself quantised keep their format.
"""

from __future__ import annotations

from dataclasses import replace

from tetrasim.sim.ir.graph import Graph, Kind, Quant, Role, TensorType, Value
from tetrasim.sim.ops.recurrence import Body
from tetrasim.sim.passes.rebuild import substitute
from tetrasim.sim.precision import Format, Precision


def with_precision(graph: Graph, precision: Precision) -> Graph:
    """`graph` with the formats of `precision`; values keep names, data and identity where unchanged."""
    formats = {
        Role.WEIGHT: precision.weights,
        Role.STATE: precision.state,
        Role.INPUT: precision.activations,
        Role.ACTIVATION: precision.activations,
        Role.CONSTANT: precision.activations,
    }
    changed: dict[Value, Value] = {}
    for value in graph.values():
        type = formatted(value.type, formats[value.role])
        if type != value.type:
            changed[value] = replace(value, type=type)
    return substitute(_with_bodies(graph, precision), changed)


def _with_bodies(graph: Graph, precision: Precision) -> Graph:
    """`graph` with the formats in the bodies of its recurrences."""
    if not any("body" in node.attrs for node in graph.nodes):
        return graph
    nodes = list(graph.nodes)
    for i, node in enumerate(nodes):
        body = node.attrs.get("body")
        if isinstance(body, Body):
            narrow = replace(body, graph=with_precision(body.graph, precision))
            nodes[i] = replace(node, attrs={**node.attrs, "body": narrow})
    return replace(graph, nodes=tuple(nodes))


def formatted(type: TensorType, format: Format) -> TensorType:
    """`type` in `format` when it is an unquantised float, else unchanged."""
    if type.kind not in (Kind.FLOAT, Kind.BFLOAT) or type.quant is not None:
        return type
    quant = None if format.integer_bits is None else Quant(integer_bits=format.integer_bits)
    return replace(type, kind=format.kind, bits=format.bits, quant=quant)
