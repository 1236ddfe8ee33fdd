"""Graphs for the HLS tests: one with every primitive and hostile names, encoders of many shapes."""

from __future__ import annotations

import numpy as np
from small_graphs import Maker

from tetrasim.sim.ir.graph import Array, Graph, Kind, Role, TensorType, Value

HOSTILE = ('"; system("touch pwned"); //', "../../x", "int", "α β", "}; #include </etc/passwd>\n", "a" * 300)


def everything() -> Graph:
    """Token ids and features through every kernel, with names that try to escape."""
    m = Maker()
    ids = Value(HOSTILE[0], TensorType((1, 5), Kind.INT, 64), Role.INPUT)
    x = Value(HOSTILE[1], TensorType((1, 5, 4)), Role.INPUT)
    names = iter(HOSTILE[2:])
    table = m.weight(7, 4)
    e = m.op("Gather", [table, ids], (1, 5, 4), next(names), axis=0)
    h = m.op("Add", [x, e], (1, 5, 4), next(names))
    h = m.op(
        "LayerNormalization", [h, m.weight(4), m.weight(4)], h.type.shape, next(names), axis=-1, epsilon=1e-5
    )
    qkv = [
        m.op("Reshape", [m.linear(h, 6, n)], (1, 5, 2, 3), f"{n}/heads", shape=(1, 5, 2, 3)) for n in "qkv"
    ]
    layouts = {f"{n}_layout": "bshd" for n in "qkvo"}
    a = m.op("Attention", qkv, (1, 5, 2, 3), next(names), causal=1, **layouts)
    a = m.op("Reshape", [a], (1, 5, 6), "merge", shape=(1, 5, 6))
    g = m.op("Gelu", [m.linear(a, 4, "up")], (1, 5, 4), "gelu", approximate="none")
    s = m.op("Swish", [m.linear(a, 4, "gate")], (1, 5, 4), "silu", alpha=1.0)
    h = m.op("Mul", [g, s], (1, 5, 4), "gated")
    h = m.op("RMSNormalization", [h, m.weight(4)], (1, 5, 4), "rms", axis=-1, epsilon=1e-3)
    t = m.op("Transpose", [h], (1, 4, 5), "turn", perm=(0, 2, 1))
    h = m.op("MatMul", [h, t], (1, 5, 5), "scores")
    h = m.op("Softmax", [h], (1, 5, 5), "rows", axis=-1)
    scale = Value("scale", TensorType((5,)), Role.WEIGHT, Array(np.linspace(0.5, 1.5, 5).astype(np.float32)))
    h = m.op("Sub", [m.op("Mul", [h, scale], (1, 5, 5), "scaled"), m.weight(5)], (1, 5, 5), "shifted")
    mean = m.op("ReduceMean", [h], (1, 5), "mean", axes=(1,), keepdims=0)
    top = m.op("ReduceMax", [h], (1, 5), "top", axes=(2,), keepdims=0)
    both = m.op("Concat", [mean, top], (1, 10), "both", axis=1)
    y = m.linear(m.op("Tanh", [m.op("Relu", [both], (1, 10), "relu")], (1, 10), "tanh"), 3, "head")
    graph = Graph("everything", tuple(m.nodes), (ids, x), (y,))
    graph.verify()
    return graph


def classifier(
    tokens: int,
    width: int,
    heads: int,
    head_dim: int,
    blocks: int,
    *,
    norm: bool,
    activation: str,
    seed: int = 0,
) -> Graph:
    """An encoder classifier; scores are read after mean pooling."""
    m = Maker()
    m.rng = np.random.default_rng(seed)
    given = x = Value("x", TensorType((1, tokens, width)), Role.INPUT)
    split, wide = (1, tokens, heads, head_dim), (1, tokens, heads * head_dim)
    layouts = {f"{n}_layout": "bshd" for n in "qkvo"}
    for b in range(blocks):
        qkv = []
        for n in "qkv":
            y = m.linear(x, heads * head_dim, f"{b}{n}")
            qkv.append(m.op("Reshape", [y], split, f"{b}{n}h", shape=split))
        a = m.op("Reshape", [m.op("Attention", qkv, split, f"{b}a", **layouts)], wide, f"{b}m", shape=wide)
        x = m.op("Add", [x, m.linear(a, width, f"{b}o")], x.type.shape, f"{b}r1")
        if norm:
            x = _norm(m, x, f"{b}n1")
        h = m.linear(x, 2 * width, f"{b}u")
        h = m.op(
            activation,
            [h],
            h.type.shape,
            f"{b}f",
            **({"approximate": "none"} if activation == "Gelu" else {}),
        )
        x = m.op("Add", [x, m.linear(h, width, f"{b}d")], x.type.shape, f"{b}r2")
        if norm:
            x = _norm(m, x, f"{b}n2")
    pooled = m.op("ReduceMean", [x], (1, width), "pool", axes=(1,), keepdims=0)
    y = m.linear(pooled, 5, "head")
    return Graph("classifier", tuple(m.nodes), (given,), (y,))


def _norm(m: Maker, x: Value, name: str) -> Value:
    width = x.type.shape[-1]
    one = Value(f"{name}.gamma", TensorType((width,)), Role.WEIGHT, Array(np.ones(width, np.float32)))
    return m.op("LayerNormalization", [x, one, m.weight(width)], x.type.shape, name, axis=-1, epsilon=1e-5)


def cnn() -> Graph:
    """Conv, ReLU, pool, conv, flatten, dense."""
    m = Maker()
    given = x = Value("image", TensorType((1, 1, 8, 8)), Role.INPUT)
    x = m.op("Conv", [x, m.weight(4, 1, 3, 3), m.weight(4)], (1, 4, 8, 8), "c1", pads=(1, 1, 1, 1))
    x = m.op("Relu", [x], x.type.shape, "r1")
    x = m.op("MaxPool", [x], (1, 4, 4, 4), "p1", kernel_shape=(2, 2), strides=(2, 2))
    x = m.op("Conv", [x, m.weight(6, 4, 3, 3)], (1, 6, 2, 2), "c2", strides=(1, 1))
    x = m.op("Relu", [x], x.type.shape, "r2")
    x = m.op("Flatten", [x], (1, 24), "flat", axis=1)
    y = m.linear(x, 10, "head")
    return Graph("cnn", tuple(m.nodes), (given,), (y,))


def mlp() -> Graph:
    """16-64-32-5."""
    m = Maker()
    given = x = Value("x", TensorType((1, 16)), Role.INPUT)
    for i, n in enumerate((64, 32)):
        x = m.linear(x, n, f"d{i}")
        x = m.op("Relu", [x], x.type.shape, f"r{i}")
    y = m.linear(x, 5, "head")
    return Graph("mlp", tuple(m.nodes), (given,), (y,))


def heads_first() -> Graph:
    """Attention in [head, position, element] order, whose rows are not those of its neighbours."""
    m = Maker()
    given = x = Value("x", TensorType((1, 6, 8)), Role.INPUT)
    split, turned = (1, 6, 2, 4), (1, 2, 6, 4)
    heads = []
    for n in "qkv":
        y = m.op("Reshape", [m.linear(x, 8, n)], split, f"{n}.heads", shape=split)
        heads.append(m.op("Transpose", [y], turned, f"{n}.turn", perm=(0, 2, 1, 3)))
    a = m.op("Attention", heads, turned, "attention")
    a = m.op("Transpose", [a], split, "back", perm=(0, 2, 1, 3))
    a = m.op("Reshape", [a], (1, 6, 8), "merge", shape=(1, 6, 8))
    y = m.op("Add", [x, m.linear(a, 8, "out")], x.type.shape, "residual")
    return Graph("heads_first", tuple(m.nodes), (given,), (y,))


def shared_outputs() -> Graph:
    """Outputs that are also read, that are the input itself, that come twice; one value in three roles."""
    m = Maker()
    x = Value("x", TensorType((1, 4, 6)), Role.INPUT)
    unused = Value("unused", TensorType((1, 3)), Role.INPUT)
    read = m.op("Relu", [m.linear(x, 8, "first")], (1, 4, 8), "read")
    heads = m.op("Reshape", [read], (1, 4, 2, 4), "heads", shape=(1, 4, 2, 4))
    layouts = {f"{n}_layout": "bshd" for n in "qkvo"}
    a = m.op("Attention", [heads] * 3, (1, 4, 2, 4), "attention", **layouts)
    turned = m.op("Transpose", [m.op("Add", [x, x], (1, 4, 6), "twice")], (1, 6, 4), "turned", perm=(0, 2, 1))
    columns = m.op("Softmax", [a], (1, 4, 2, 4), "columns", axis=1)
    same = m.op("Identity", [x], (1, 4, 6), "same")
    again = m.op("Identity", [a], (1, 4, 2, 4), "again")
    return Graph("shared", tuple(m.nodes), (x, unused), (read, a, turned, columns, same, again))


def many_readers() -> Graph:
    """One product that eight others read."""
    m = Maker()
    x = Value("x", TensorType((1, 4)), Role.INPUT)
    y = m.op("MatMul", [x, m.weight(4, 4)], (1, 4), "shared")
    outputs = tuple(m.op("MatMul", [y, m.weight(4, 2)], (1, 2), f"reader{i}") for i in range(8))
    return Graph("many_readers", tuple(m.nodes), (x,), outputs)


def refused() -> Graph:
    """Several nodes without an HLS layer, some of which only follow from others."""
    m = Maker()
    x = Value("x", TensorType((1, 4, 6)), Role.INPUT)
    y = m.op("CumSum", [x, m.weight(1)], x.type.shape, "running")
    y = m.op("Relu", [y], x.type.shape, "follows")
    z = m.op("Pow", [x, m.weight(1)], x.type.shape, "power")
    d = m.op("Div", [x, z], x.type.shape, "ratio")
    e = m.op("Div", [x, x], x.type.shape, "ones")
    return Graph("refused", tuple(m.nodes), (x,), (y, d, e))
