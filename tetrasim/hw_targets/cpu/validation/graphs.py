"""Transformer graphs built by hand, node for node what the importer makes of exported ones.

For validation only: the measured models are rebuilt here from their dimensions, so that checking the model's
error needs neither torch nor weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tetrasim.sim.ir.graph import Attr, Graph, Node, Role, State, TensorType, Value


@dataclass(frozen=True, slots=True)
class Encoder:
    """Dimensions of a stack of blocks; `past` > 0: one decoding step over that many cached keys."""

    layers: int
    width: int
    heads: int
    ffn: int
    tokens: int
    post_norm: bool = False
    vocabulary: int = 0  # columns of the head on the last token, 0: no head
    past: int = 0
    approximate: str = "none"


@dataclass
class _Builder:
    nodes: list[Node] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def add(
        self,
        op: str,
        inputs: tuple[Value, ...],
        shape: tuple[int, ...],
        attrs: Mapping[str, Attr] | None = None,
        role: Role = Role.ACTIVATION,
    ) -> Value:
        name = f"{op}.{len(self.nodes)}"
        out = Value(name, TensorType(shape), role)
        self.nodes.append(Node(name, op, inputs, (out,), attrs or {}))
        return out

    def weight(self, name: str, *shape: int) -> Value:
        return Value(f"{name}.{len(self.nodes)}", TensorType(shape), Role.WEIGHT)

    def linear(self, x: Value, n: int) -> Value:
        k = x.type.shape[-1]
        ins = (x, self.weight("w", k, n), self.weight("b", n))
        return self.add("Gemm", ins, (*x.type.shape[:-1], n))

    def norm(self, x: Value) -> Value:
        d = x.type.shape[-1]
        ins = (x, self.weight("g", d), self.weight("c", d))
        return self.add("LayerNormalization", ins, x.type.shape, {"axis": -1})


def transformer(e: Encoder) -> Graph:
    """The graph of one run."""
    b = _Builder()
    x = Value("hidden", TensorType((1, e.tokens, e.width)), Role.INPUT)
    at = x
    for i in range(e.layers):
        at = _block(b, at, e, i)
    if not e.post_norm:
        at = b.norm(at)
    if e.vocabulary:
        last = at
        if e.tokens > 1:
            last = b.add(
                "Slice", (at,), (1, 1, e.width), {"axes": 1, "starts": e.tokens - 1, "ends": e.tokens}
            )
        at = b.add("MatMul", (last, b.weight("head", e.width, e.vocabulary)), (1, 1, e.vocabulary))
    states = tuple(b.states)
    graph = Graph(
        "transformer",
        tuple(b.nodes),
        (x, *(s.before for s in states)),
        (at, *(s.after for s in states)),
        states,
    )
    graph.verify()
    return graph


def _block(b: _Builder, x: Value, e: Encoder, index: int) -> Value:
    h = x if e.post_norm else b.norm(x)
    mixed = b.linear(_attention(b, h, e, index), e.width)
    x = b.add("Add", (x, mixed), x.type.shape)
    if e.post_norm:
        x = b.norm(x)
    h = x if e.post_norm else b.norm(x)
    up = b.linear(h, e.ffn)
    down = b.linear(b.add("Gelu", (up,), up.type.shape, {"approximate": e.approximate}), e.width)
    x = b.add("Add", (x, down), x.type.shape)
    return b.norm(x) if e.post_norm else x


def _attention(b: _Builder, h: Value, e: Encoder, index: int) -> Value:
    shape = (1, e.tokens, e.heads, e.width // e.heads)
    q, k, v = (b.add("Reshape", (b.linear(h, e.width),), shape) for _ in "qkv")
    layout: dict[str, Attr] = {f"{n}_layout": "bshd" for n in "qkvo"}
    if e.past:
        k, v = (_cached(b, x, e, f"{n}.{index}") for n, x in (("key", k), ("value", v)))
        layout |= {"k_layout": "bhsd", "v_layout": "bhsd"}
    causal = 1 if e.vocabulary and not e.past else 0
    out = b.add("Attention", (q, k, v), shape, {**layout, "causal": causal})
    return b.add("Reshape", (out,), (1, e.tokens, e.width))


def _cached(b: _Builder, x: Value, e: Encoder, name: str) -> Value:
    d = e.width // e.heads
    past = Value(f"past.{name}", TensorType((1, e.heads, e.past, d)), Role.STATE)
    new = b.add("Reshape", (x,), (1, e.heads, e.tokens, d))
    shape = (1, e.heads, e.past + e.tokens, d)
    present = b.add("KVAppend", (past, new), shape, {"axis": 2}, Role.STATE)
    b.states.append(State(past, present))
    return present
