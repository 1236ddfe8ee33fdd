"""Pass `views`: fewer reshapes and transposes.

What: chains of reshapes become one, chains of transposes become one, a transpose between two reshapes that
only merge and split leading axes becomes a transpose, no-ops vanish. Why: exporters write the same view in
many ways, and patterns should see one. When illegal: never; the values are the same bytes in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tetrasim.sim.ir.graph import Graph, Node, Value
from tetrasim.sim.ops.opdef import ints_attr
from tetrasim.sim.passes.contract import Match, Outcome, Pass, fresh, fused, helper, until_stable
from tetrasim.sim.passes.rebuild import replace_values


def perm_of(node: Node) -> tuple[int, ...]:
    """The permutation of a Transpose."""
    return ints_attr(node.attrs, "perm", tuple(reversed(range(len(node.outputs[0].type.shape)))))


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op == "Reshape":
        return _merge_reshapes(match, node) or _lift_transpose(match, node)
    if node.op == "Transpose":
        return _merge_transposes(match, node)
    return None


def _merge_reshapes(match: Match, node: Node) -> Sequence[Node] | None:
    before = match.producer(node.inputs[0], "Reshape")
    if before is None:
        return None
    return (fused(node, "Reshape", before.inputs, {"shape": node.outputs[0].type.shape}, (before,)),)


def _merge_transposes(match: Match, node: Node) -> Sequence[Node] | None:
    before = match.producer(node.inputs[0], "Transpose")
    # a transpose that something else reads too (a cache) has to be made anyway: read its result
    if before is None or not match.used_once(before.outputs[0]):
        return None
    first, second = perm_of(before), perm_of(node)
    return (fused(node, "Transpose", before.inputs, {"perm": tuple(first[p] for p in second)}, (before,)),)


def _lift_transpose(match: Match, node: Node) -> Sequence[Node] | None:
    """Reshape(Transpose of the last two axes) that regroups leading axes only -> Transpose(Reshape)."""
    turn = match.producer(node.inputs[0], "Transpose")
    if turn is None:
        return None
    perm = perm_of(turn)
    rank = len(perm)
    source = turn.inputs[0]
    shape = node.outputs[0].type.shape
    if source is None or rank < 2 or perm != (*range(rank - 2), rank - 1, rank - 2):
        return None
    m, n = source.type.shape[-2:]
    if shape[-2:] != (n, m) or len(shape) < 3 or math.prod(shape[:-2]) != math.prod(source.type.shape[:-2]):
        return None
    inner = fresh(node, "regrouped", replace(source.type, shape=(*shape[:-2], m, n)))
    regroup = helper(node, "regrouped", "Reshape", (source,), inner, {"shape": inner.type.shape})
    out_rank = len(shape)
    attrs = {"perm": (*range(out_rank - 2), out_rank - 1, out_rank - 2)}
    return regroup, fused(node, "Transpose", (inner,), dict(attrs), (turn,))


def drop_no_ops(graph: Graph) -> Outcome:
    """Reshapes and transposes that change nothing are bypassed (unless a graph output needs their name)."""
    same: dict[Value, Value] = {}
    nodes = []
    for old in graph.nodes:
        node = replace_values(old, same)
        source = node.inputs[0] if node.inputs else None
        out = node.outputs[0]
        idle = source is not None and out not in graph.outputs and _changes_nothing(node, source)
        if idle and source is not None:
            same[out] = source
        else:
            nodes.append(node)
    return Outcome(replace(graph, nodes=tuple(nodes)), True) if same else Outcome(graph, False)


# Idle where the type stays: the shape asked for is the one that is there.
_IDLE = ("Identity", "Cast", "Expand", "Tile", "Squeeze", "Unsqueeze", "Flatten")


def _changes_nothing(node: Node, source: Value) -> bool:
    if node.op == "Reshape":
        return source.type == node.outputs[0].type
    if node.op == "Transpose":
        return perm_of(node) == tuple(range(len(source.type.shape)))
    if source.type != node.outputs[0].type:
        return False
    if node.op == "Slice":  # all of every axis, forwards
        return min(ints_attr(node.attrs, "steps", (1,)), default=1) > 0
    if node.op == "Pad":
        return not any(ints_attr(node.attrs, "pads"))
    return node.op in _IDLE


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    merged = until_stable(graph, "views", _rule)
    dropped = drop_no_ops(merged.graph)
    return Outcome(dropped.graph, merged.changed or dropped.changed)


PASS = Pass("views", run, "no reshape reads a reshape, no transpose reads a transpose, none changes nothing")
