"""Reading the operands of an attention pattern: the tensors that q, k and v really come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tetrasim.sim.ir.graph import Node, Value
from tetrasim.sim.passes.attention_scores import Found
from tetrasim.sim.passes.contract import Match, Miss, fresh, helper, other, scalar
from tetrasim.sim.passes.views import perm_of


@dataclass(frozen=True)
class Side:
    """One of q, k, v: the value to read and the order of its axes (b batch, h heads, s tokens, d width)."""

    value: Value
    layout: str


def peel(match: Match, value: Value, layout: str, found: Found, scaled: bool) -> Side:
    """Walk back from an operand of a product through scalar factors (when `scaled`), transposes and
    repeated heads to the tensor that attention should read."""
    while True:
        node = match.producer(value, "Mul", "Div", "Transpose", "Reshape")
        if node is None or value in match.graph.outputs:
            return Side(value, layout)
        source: Value | None = None
        if node.op == "Transpose" and len(layout) == len(perm_of(node)) and match.used_once(value):
            source = node.inputs[0]
            letters = [""] * len(layout)
            for i, p in enumerate(perm_of(node)):
                letters[p] = layout[i]
            layout = "".join(letters)
        elif node.op in ("Mul", "Div") and scaled:
            source = _factor(node, found)
        elif node.op == "Reshape" and "h" in layout:
            source = _unrepeated(match, node, layout.index("h"), found)
        if source is None:
            return Side(value, layout)
        found.parts.append(node)
        value = source


def _factor(node: Node, found: Found) -> Value | None:
    for value in node.inputs if node.op == "Mul" else node.inputs[:1]:
        factor = None if value is None else scalar(other(node, value))
        if factor is not None:
            found.scale *= factor if node.op == "Mul" else 1 / factor
            return value
    return None


def _unrepeated(match: Match, node: Node, axis: int, found: Found) -> Value | None:
    """Reshape(Expand(Reshape(x))) that repeats each head r times -> x."""
    expand = match.producer(node.inputs[0], "Expand")
    before = match.producer(expand.inputs[0], "Reshape") if expand else None
    if expand is None or before is None or before.inputs[0] is None:
        return None
    base = before.inputs[0].type.shape
    wide, out = expand.outputs[0].type.shape, node.outputs[0].type.shape
    if len(base) != len(out) or len(wide) != len(base) + 1:
        return None
    groups, repeats = base[axis], wide[axis + 1]
    lead, tail = base[:axis], base[axis + 1 :]
    fits = before.outputs[0].type.shape == (*lead, groups, 1, *tail) and wide == (
        *lead,
        groups,
        repeats,
        *tail,
    )
    if not fits or out != (*lead, groups * repeats, *tail):
        return None
    found.parts += [expand, before]
    return before.inputs[0]


def four_axes(node: Node, name: str, side: Side, lead: tuple[int, int]) -> tuple[Side, list[Node]]:
    """Operands of fewer axes get `lead` (batch, heads) in place of their batch axis, as a view.

    Raises:
        Miss: the batch axis is not batch * heads.
    """
    if len(side.layout) == 4:
        return side, []
    shape: Sequence[int] = side.value.type.shape
    layout = side.layout
    if "b" not in layout:
        shape, layout = (1, *shape), "b" + layout
    at = layout.index("b")
    if shape[at] != math.prod(lead):
        raise Miss(f"{name} has {shape[at]} matrices, not {lead[0]} x {lead[1]}")
    wide = fresh(node, name, replace(side.value.type, shape=(*shape[:at], *lead, *shape[at + 1 :])))
    view = helper(node, name, "Reshape", (side.value,), wide, {"shape": wide.type.shape})
    return Side(wide, layout.replace("b", "bh")), [view]
