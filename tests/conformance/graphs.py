"""Small graphs that every target must be able to run: what a transformer block is made of."""

from __future__ import annotations

import numpy as np

from tetrasim.sim.ir.graph import Array, Graph, Node, Role, TensorType, Value


def _value(name: str, *shape: int, role: Role = Role.ACTIVATION) -> Value:
    if role is not Role.WEIGHT:
        return Value(name, TensorType(shape), role)
    seed = sum(map(ord, name))
    data = (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(np.float32)
    return Value(name, TensorType(shape), role, Array(data))


def feed_forward(rows: int, width: int, layers: int = 1) -> Graph:
    """Norm, two products, bias, GELU, gate, product, residual sum: all that kernels are fused from."""
    x = first = _value("x", rows, width, role=Role.INPUT)
    nodes: list[Node] = []

    def add(op: str, inputs: tuple[Value, ...], *shape: int, **attrs: int) -> Value:
        out = _value(f"{op}{len(nodes)}", *shape)
        nodes.append(Node(f"n{len(nodes)}", op, inputs, (out,), attrs))
        return out

    def weight(name: str, *shape: int) -> Value:
        return _value(name, *shape, role=Role.WEIGHT)

    for i in range(layers):
        h = add(
            "LayerNormalization", (x, weight(f"s{i}", width), weight(f"b{i}", width)), rows, width, axis=-1
        )
        gate = add("MatMul", (h, weight(f"gate{i}", width, 4 * width)), rows, 4 * width)
        h = add("MatMul", (h, weight(f"up{i}", width, 4 * width)), rows, 4 * width)
        h = add("Add", (h, weight(f"bias{i}", 4 * width)), rows, 4 * width)
        h = add("Gelu", (h,), rows, 4 * width)
        h = add("Mul", (h, gate), rows, 4 * width)
        h = add("MatMul", (h, weight(f"down{i}", 4 * width, width)), rows, width)
        x = add("Add", (h, x), rows, width)
    return Graph("feed-forward", tuple(nodes), (first,), (x,))
