"""Pass `rotary`: rotary position embedding (Su et al., arXiv:2104.09864).

What: x * cos + turn(x) * sin becomes RotaryEmbedding(x, cos, sin), where turn(x) is Concat(-x2, x1) of the
halves, or the interleaved pairs (-x[1::2], x[0::2]); a head transpose in front becomes `x_layout`. Why: one
pass over q and k. When illegal: halves of unequal size, or an interior value is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from tetrasim.sim.ir.graph import Attr, Graph, Node, Value
from tetrasim.sim.ops.attention import CANONICAL
from tetrasim.sim.ops.movement import slice_bounds
from tetrasim.sim.passes.contract import Match, Miss, Outcome, Pass, fused, other, rewrite
from tetrasim.sim.passes.views import perm_of


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op == "RotaryEmbedding":
        return _absorb_layout(match, node)
    if node.op != "Add":
        return None
    left, right = (match.producer(v, "Mul") for v in node.inputs[:2])
    if left is None or right is None:
        return None
    for plain, turned in ((left, right), (right, left)):
        found = _turned(match, turned)
        if found is None:
            continue
        x, sin, interleaved, parts = found
        cos = other(plain, x) if x in plain.inputs else None
        if cos is None or sin is None or node.outputs[0].type.shape != x.type.shape:
            continue
        if cos.type.shape[-1:] != sin.type.shape[-1:]:
            raise Miss(f"cos {cos.type.shape} and sin {sin.type.shape} differ in width")
        for part in (plain, turned, *parts):
            _check_private(match, part, (node, plain, turned, *parts))
        attrs: dict[str, Attr] = {"interleaved": 1} if interleaved else {}
        return (fused(node, "RotaryEmbedding", (x, cos, sin), attrs, (plain, turned, *parts)),)
    return None


def _check_private(match: Match, part: Node, parts: Sequence[Node]) -> None:
    for value in part.outputs:
        if any(user not in parts for user in match.consumers(value)):
            raise Miss(f"'{value.name}' inside the rotation is also read elsewhere")


def _turned(match: Match, node: Node) -> tuple[Value, Value | None, bool, list[Node]] | None:
    """Match turn(x) * sin: x, sin, interleaved?, nodes."""
    for value in node.inputs:
        if value is None:
            continue
        sin = other(node, value)
        concat = match.producer(value, "Concat")
        if concat is not None and len(concat.inputs) == 2:
            found = _halves(match, concat)
            if found is not None:
                return found[0], sin, False, [concat, *found[1]]
        pairs = match.producer(value, "Reshape")
        stack = match.producer(pairs.inputs[0], "Concat") if pairs else None
        if pairs is not None and stack is not None and len(stack.inputs) == 2:
            found = _pairs(match, stack)
            if found is not None:
                return found[0], sin, True, [pairs, stack, *found[1]]
    return None


def _halves(match: Match, concat: Node) -> tuple[Value, list[Node]] | None:
    """Concat(-second half of x, first half of x) along the last axis."""
    if int(_as_int(concat.attrs.get("axis"))) % len(concat.outputs[0].type.shape) != (
        len(concat.outputs[0].type.shape) - 1
    ):
        return None
    negated = match.producer(concat.inputs[0], "Neg")
    if negated is None:
        return None
    second, first = _part(match, negated.inputs[0]), _part(match, concat.inputs[1])
    if second is None or first is None or second[0] is not first[0]:
        return None
    x, width = first[0], first[0].type.shape[-1]
    if first[1] != (0, width // 2, 1) or second[1] != (width // 2, width, 1) or width % 2:
        raise Miss(f"the parts {first[1]} and {second[1]} of {width} columns are not its halves")
    return x, [negated, second[2], first[2]]


def _pairs(match: Match, stack: Node) -> tuple[Value, list[Node]] | None:
    """Concat of -x[1::2] and x[0::2] on a new last axis, to be flattened."""
    views = [match.producer(v, "Reshape") for v in stack.inputs]
    if views[0] is None or views[1] is None:
        return None
    negated = match.producer(views[0].inputs[0], "Neg")
    parts = list[Node]([v for v in views if v is not None])
    if negated is None:  # Neg(Reshape(...)) instead of Reshape(Neg(...))
        return None
    odd, even = _part(match, negated.inputs[0]), _part(match, views[1].inputs[0])
    if odd is None or even is None or odd[0] is not even[0]:
        return None
    width = even[0].type.shape[-1]
    if even[1] != (0, width, 2) or odd[1] != (1, width, 2):
        return None
    return even[0], [*parts, negated, odd[2], even[2]]


def _part(match: Match, value: Value | None) -> tuple[Value, tuple[int, int, int], Node] | None:
    """A slice or split part along the last axis: source, (start, stop, step), node."""
    node = match.producer(value, "Slice", "Split")
    if node is None or node.inputs[0] is None or value is None:
        return None
    source = node.inputs[0]
    last = len(source.type.shape) - 1
    if node.op == "Split":
        if _as_int(node.attrs.get("axis", 0)) % (last + 1) != last:
            return None
        start = 0
        for out in node.outputs:
            if out is value:
                return source, (start, start + out.type.shape[-1], 1), node
            start += out.type.shape[-1]
        return None
    bounds = slice_bounds(source.type.shape, node.attrs)
    whole = all(bounds[i] == (0, d, 1) for i, d in enumerate(source.type.shape[:-1]))
    return (source, bounds[last], node) if whole else None


def _as_int(value: Attr | None) -> int:
    return value if isinstance(value, int) else 0


def _absorb_layout(match: Match, node: Node) -> Sequence[Node] | None:
    x = node.inputs[0]
    turn = match.producer(x, "Transpose")
    if (
        turn is None
        or x is None
        or not match.used_once(x)
        or "x_layout" in node.attrs
        or len(x.type.shape) != 4
    ):
        return None
    perm = perm_of(turn)
    layout = [""] * 4
    for i, p in enumerate(perm):
        layout[p] = CANONICAL[i]
    attrs: dict[str, Attr] = {**node.attrs, "x_layout": "".join(layout)}
    return (fused(node, "RotaryEmbedding", (turn.inputs[0], *node.inputs[1:]), attrs, (turn,)),)


def run(graph: Graph) -> Outcome:
    """Apply the pass: rotations first, then the transposes in front of them."""
    first = rewrite(graph, "rotary", _rule)
    second = rewrite(first.graph, "rotary", _rule)
    # the second sweep repeats the first one's near misses
    return Outcome(second.graph, first.changed or second.changed, first.notes)


PASS = Pass("rotary", run, "rotary embeddings are one node", requires=("views",))
