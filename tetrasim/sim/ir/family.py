"""`GraphFamily`: the same step graph at every context length.

A decoder's step graph at context T and at T + 1 has the same nodes; only some dims differ, and each is
affine in T. So the ONNX file is imported at two context lengths, every dim is written as
`base + slope * (T - T0)`, and a third import proves the line: the graph at any other context is then exact
arithmetic on shapes (no times are interpolated). Values that do not depend on T are shared objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from tetrasim.errors import UserError
from tetrasim.sim.ir.graph import Graph, Node, State, Value


@dataclass(frozen=True, eq=False)
class GraphFamily:
    """`base` is the graph at context `base_context`; `slopes` maps a value to d(shape)/d(context)."""

    base: Graph
    base_context: int
    symbol: str
    slopes: Mapping[Value, tuple[int, ...]]
    attr_slopes: Mapping[tuple[Node, str], tuple[int, ...]]

    def at(self, context: int) -> Graph:
        """The graph at `context` cached keys."""
        return _at(self, context)

    @property
    def is_constant(self) -> bool:
        """True when nothing depends on the context (a plain forward graph)."""
        return not self.slopes


def constant_family(graph: Graph) -> GraphFamily:
    """A family with one member: a prefill or forward graph."""
    return GraphFamily(graph, 0, "", {}, {})


def transformed(family: GraphFamily, base: Graph) -> GraphFamily:
    """The family of `base`, a transformed `family.base` that kept the names and shapes of moving values.

    For passes that change formats or attributes but not structure (precision): slopes carry over by name.
    """
    values = {v.name: v for v in base.values()}
    nodes = {n.name: n for n in base.nodes}
    return GraphFamily(
        base,
        family.base_context,
        family.symbol,
        {values[v.name]: slope for v, slope in family.slopes.items() if v.name in values},
        {(nodes[n.name], key): s for (n, key), s in family.attr_slopes.items() if n.name in nodes},
    )


def family_from(low: Graph, high: Graph, proof: Graph, symbol: str) -> GraphFamily:
    """The family through `low` and `high`, checked to contain `proof`.

    All three are imports of one file that differ in `dims[symbol]` only.

    Raises:
        UserError: when the node lists differ or a dim is not affine in the symbol, naming the value.
    """
    t0, t1, t2 = (dict(g.dims)[symbol] for g in (low, high, proof))
    slopes: dict[Value, tuple[int, ...]] = {}
    proofs = {v.name: v for v in proof.values()}
    highs = {v.name: v for v in high.values()}
    for value in low.values():
        other = highs.get(value.name)
        check = proofs.get(value.name)
        if other is None or check is None or len(other.type.shape) != len(value.type.shape):
            raise UserError(f"the step graph changes its structure with '{symbol}' at value '{value.name}'")
        pairs = list(zip(value.type.shape, other.type.shape, strict=True))
        if any((b - a) % (t1 - t0) for a, b in pairs):
            raise UserError(f"value '{value.name}' has a dim that is not affine in '{symbol}': {pairs}")
        slope = tuple((b - a) // (t1 - t0) for a, b in pairs)
        at_proof = tuple(a + s * (t2 - t0) for a, s in zip(value.type.shape, slope, strict=True))
        if at_proof != check.type.shape:
            raise UserError(f"value '{value.name}' has a dim that is not affine in '{symbol}'")
        if any(slope):
            slopes[value] = slope
    return GraphFamily(low, t0, symbol, slopes, _attr_slopes(low, high, proof, (t0, t1, t2)))


def _attr_slopes(
    low: Graph, high: Graph, proof: Graph, contexts: tuple[int, int, int]
) -> dict[tuple[Node, str], tuple[int, ...]]:
    """Integer attributes that move with the context (slice ends, reshape targets)."""
    t0, t1, t2 = contexts
    out: dict[tuple[Node, str], tuple[int, ...]] = {}
    if not len(low.nodes) == len(high.nodes) == len(proof.nodes):
        raise UserError("the step graph changes its number of nodes with the context length")
    for a, b, c in zip(low.nodes, high.nodes, proof.nodes, strict=True):
        if (a.name, a.op) != (b.name, b.op) or a.attrs.keys() != b.attrs.keys():
            raise UserError(f"the step graph changes its structure with the context at node '{a.name}'")
        for key, first in a.attrs.items():
            if first == b.attrs[key]:
                continue
            rows = [_ints(n.attrs[key]) for n in (a, b, c)]
            slope = tuple((y - x) // (t1 - t0) for x, y in zip(rows[0], rows[1], strict=True))
            if tuple(x + s * (t2 - t0) for x, s in zip(rows[0], slope, strict=True)) != rows[2]:
                raise UserError(f"attribute '{key}' of node '{a.name}' is not affine in the context length")
            out[a, key] = slope
    return out


def _ints(attr: object) -> tuple[int, ...]:
    if isinstance(attr, int):
        return (attr,)
    if isinstance(attr, tuple) and all(isinstance(x, int) for x in attr):
        return attr
    raise UserError(f"an attribute changes with the context length but is not an integer: {attr!r}")


@lru_cache(maxsize=4096)
def _at(family: GraphFamily, context: int) -> Graph:
    step = context - family.base_context
    if not family.slopes or step == 0:
        return family.base
    moved = {
        v: replace(
            v,
            type=replace(v.type, shape=tuple(d + s * step for d, s in zip(v.type.shape, slope, strict=True))),
            data=None,
        )
        for v, slope in family.slopes.items()
    }
    changed_attrs: dict[Node, dict[str, int | tuple[int, ...]]] = {}
    for (node, key), slope in family.attr_slopes.items():
        value = tuple(d + s * step for d, s in zip(_ints(node.attrs[key]), slope, strict=True))
        changed_attrs.setdefault(node, {})[key] = value[0] if isinstance(node.attrs[key], int) else value
    base = family.base
    nodes = tuple(
        replace(
            node,
            inputs=tuple(v if v is None else moved.get(v, v) for v in node.inputs),
            outputs=tuple(moved.get(v, v) for v in node.outputs),
            attrs={**node.attrs, **changed_attrs.get(node, {})},
        )
        if node in changed_attrs or any(v in moved for v in (*node.inputs, *node.outputs) if v is not None)
        else node
        for node in base.nodes
    )
    graph = Graph(
        base.name,
        nodes,
        tuple(moved.get(v, v) for v in base.inputs),
        tuple(moved.get(v, v) for v in base.outputs),
        tuple(State(moved.get(s.before, s.before), moved.get(s.after, s.after)) for s in base.states),
        tuple((k, context if k == family.symbol else n) for k, n in base.dims),
    )
    # The structure is the same at every context: hand the edges on rather than derive them again.
    graph.__dict__["predecessors"] = base.predecessors
    if not any(v in moved for v in base.weights):
        graph.__dict__["weights"] = base.weights
    return graph
