"""Repeat one traced layer: export three layers, prove that the third is the second renamed, stamp the rest.

The layers of a stack are one module class with one configuration, so the exporter would trace the same
code over and over (80 times for llama2-70b, most of the export time). Instead the first `TRACED` layers
are traced, layer 2 is matched node by node with layer 1 (op, attributes, and every operand: same value,
renamed weight, renamed cache, or the hidden state one layer later), and the match is repeated. If anything
does not match, the caller traces the whole model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tetrasim.export.trace import has_scope, scope_of

if TYPE_CHECKING:
    import onnx_ir as ir

TRACED = 3
_LAYER = re.compile(r"\bblocks\.(\d+)\b")
_CACHE = re.compile(r"(past_(?:key|value))\.(\d+)")


@dataclass(frozen=True, eq=False)
class _Template:
    """Layer 2, ready to be repeated: `hidden_in` is what it reads from layer 1, `hidden_out` its result."""

    nodes: tuple[ir.Node, ...]
    hidden_in: ir.Value
    hidden_out: ir.Value


def stamp_layers(model: ir.Model, layers: int) -> bool:
    """Extend `model`, traced with `TRACED` layers, to `layers` in place; False if the layers differ.

    Graph inputs gain `past_key.i`, `past_value.i` in layer order; outputs gain this layer's presents.
    """
    template = _match(model)
    if template is None:
        return False
    graph = model.graph
    after = [(use.node, use.idx) for use in template.hidden_out.uses() if _layer(use.node) is None]
    last, hidden = template.nodes[-1], template.hidden_out
    presents = [value for value in graph.outputs if value.producer() in template.nodes]
    presents = [value for value in presents if value is not template.hidden_out]
    for index in range(TRACED, layers):
        mapping = {template.hidden_in: hidden}
        clones = [_clone(graph, node, index, mapping) for node in template.nodes]
        graph.insert_after(last, clones)
        last, hidden = clones[-1], mapping[template.hidden_out]
        graph.outputs.extend(mapping[value] for value in presents)
    for node, position in after:
        node.replace_input_with(position, hidden)
    for i, value in enumerate(graph.outputs):
        if value is template.hidden_out:
            hidden.name, hidden.shape, hidden.type = value.name, value.shape, value.type
            value.name = None
            graph.outputs[i] = hidden
    return True


def _layer(node: ir.Node) -> int | None:
    """Which layer a node belongs to; a node that a clean-up made belongs where its operand comes from."""
    found = _LAYER.match(scope_of(node))
    if found:
        return int(found.group(1))
    if not has_scope(node) and node.inputs and node.inputs[0] is not None:
        producer = node.inputs[0].producer()
        return _layer(producer) if producer is not None else None
    return None


def _match(model: ir.Model) -> _Template | None:
    """Layer 2 as layer 1 renamed, or None."""
    of_layer: dict[int, list[ir.Node]] = {1: [], 2: []}
    for node in model.graph:
        layer = _layer(node)
        if layer in of_layer:
            of_layer[layer].append(node)
    first, second = of_layer[1], of_layer[2]
    if len(first) != len(second) or not first:
        return None
    same: dict[ir.Value | None, ir.Value | None] = {None: None}
    hidden: set[tuple[ir.Value | None, ir.Value | None]] = set()
    for a, b in zip(first, second, strict=True):
        if not _same_op(a, b):
            return None
        hidden |= {(x, y) for x, y in zip(a.inputs, b.inputs, strict=True) if not _corresponds(x, y, same)}
        same.update(zip(a.outputs, b.outputs, strict=True))
    if len(hidden) != 1:
        return None
    ((before, between),) = hidden
    after = same.get(between)
    if before in same or between is None or after is None:
        return None
    return _Template(tuple(second), between, after)


def _same_op(a: ir.Node, b: ir.Node) -> bool:
    return (
        (a.domain, a.op_type) == (b.domain, b.op_type)
        and a.attributes == b.attributes
        and len(a.inputs) == len(b.inputs)
        and len(a.outputs) == len(b.outputs)
    )


def _corresponds(
    x: ir.Value | None, y: ir.Value | None, same: Mapping[ir.Value | None, ir.Value | None]
) -> bool:
    """Whether `y` of layer 2 is what `x` is in layer 1: shared, computed alike, or renamed."""
    if x is y or (x in same and same[x] is y):
        return True
    return x is not None and y is not None and x.producer() is None and _renamed(x.name, 2) == y.name


def _renamed(name: str | None, layer: int) -> str:
    """`blocks.1.x` -> `blocks.<layer>.x`, `past_key.1` -> `past_key.<layer>`."""
    text = _LAYER.sub(f"blocks.{layer}", name or "")
    return _CACHE.sub(lambda m: f"{m.group(1)}.{layer}", text)


def _clone(graph: ir.Graph, node: ir.Node, layer: int, mapping: dict[ir.Value, ir.Value]) -> ir.Node:
    import onnx_ir as ir

    inputs = [None if value is None else _operand(graph, value, layer, mapping) for value in node.inputs]
    props: Mapping[str, str] = {
        key: _LAYER.sub(f"blocks.{layer}", v) for key, v in node.metadata_props.items()
    }
    clone = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        node.attributes,
        num_outputs=len(node.outputs),
        metadata_props=dict(props),
    )
    for old, new in zip(node.outputs, clone.outputs, strict=True):
        new.shape, new.type = old.shape, old.type
        new.name = f"{old.name}.{layer}" if old.name else None
        mapping[old] = new
    return clone


def _operand(graph: ir.Graph, value: ir.Value, layer: int, mapping: dict[ir.Value, ir.Value]) -> ir.Value:
    import onnx_ir as ir

    if value in mapping:
        return mapping[value]
    name = _renamed(value.name, layer)
    if value.producer() is not None or name == value.name:
        return value  # computed once for all layers: positions, the mask, shapes
    fresh = ir.Value(name=name, shape=value.shape, type=value.type)
    mapping[value] = fresh
    if value.is_graph_input():
        graph.inputs.append(fresh)
    else:
        graph.initializers[name] = fresh
    return fresh
