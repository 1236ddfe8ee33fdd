"""Hand-built graphs: the encoder of the published jet taggers, and one decoder step, without an importer."""

from __future__ import annotations

import itertools

import numpy as np

from tetrasim.sim.ir.graph import Array, Graph, Node, Role, TensorType, Value
from tetrasim.sim.passes.precision import with_precision
from tetrasim.sim.precision import Precision


class Maker:
    """Adds nodes with inferred shapes."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.count = itertools.count()
        self.rng = np.random.default_rng(0)

    def weight(self, *shape: int) -> Value:
        data = self.rng.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)
        return Value(f"w{next(self.count)}", TensorType(shape), Role.WEIGHT, Array(data))

    def op(
        self, op: str, inputs: list[Value], out_shape: tuple[int, ...], name: str = "", **attrs: object
    ) -> Value:
        label = name or f"{op.lower()}_{next(self.count)}"
        out = Value(f"{label}.out", TensorType(out_shape))
        self.nodes.append(Node(label, op, tuple(inputs), (out,), attrs))  # type: ignore[arg-type]
        return out

    def linear(self, x: Value, n: int, name: str) -> Value:
        shape = (*x.type.shape[:-1], n)
        y = self.op("MatMul", [x, self.weight(x.type.shape[-1], n)], shape, f"{name}.matmul")
        return self.op("Add", [y, self.weight(n)], shape, f"{name}.bias")


def encoder(
    tokens: int = 15,
    features: int = 6,
    blocks: int = 3,
    heads: int = 2,
    head_dim: int = 32,
    ffn: int = 8,
    head: tuple[int, ...] = (32, 16, 3),
) -> Graph:
    """[1, tokens, features] -> attention and feed-forward blocks with residuals -> flatten -> dense head."""
    m = Maker()
    x = graph_input = Value("x", TensorType((1, tokens, features)), Role.INPUT)
    wide, split = (1, tokens, heads * head_dim), (1, tokens, heads, head_dim)
    for b in range(blocks):
        qkv = []
        for n in "qkv":
            y = m.linear(x, heads * head_dim, f"block{b}.{n}")
            qkv.append(m.op("Reshape", [y], split, f"block{b}.{n}.heads", shape=split))
        layouts = {f"{n}_layout": "bshd" for n in "qkvo"}
        a = m.op("Attention", qkv, split, f"block{b}.attention", **layouts)
        a = m.op("Reshape", [a], wide, f"block{b}.merge", shape=wide)
        x = m.op("Add", [x, m.linear(a, features, f"block{b}.out")], x.type.shape, f"block{b}.residual1")
        h = m.linear(x, ffn, f"block{b}.up")
        h = m.op("Relu", [h], h.type.shape, f"block{b}.relu")
        x = m.op("Add", [x, m.linear(h, features, f"block{b}.down")], x.type.shape, f"block{b}.residual2")
    flat = (1, tokens * features)
    x = m.op("Reshape", [x], flat, "flatten", shape=flat)
    for i, n in enumerate(head):
        x = m.linear(x, n, f"head{i}")
        if i + 1 < len(head):
            x = m.op("Relu", [x], x.type.shape, f"head{i}.relu")
    x = m.op("Softmax", [x], x.type.shape, "softmax", axis=-1)
    graph = Graph("encoder", tuple(m.nodes), (graph_input,), (x,))
    graph.verify()
    return graph


def lowered(graph: Graph, precision: Precision) -> Graph:
    """`graph` in the target's formats."""
    return with_precision(graph, precision)
