"""Reading the scores of an attention pattern: from the probabilities back to the product of q and k.

On the way: scales, one or more masks, a cap, casts, torch's guard against rows without keys, and reshapes
between [batch * heads, q, k] and [batch, heads, q, k].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tetrasim.sim.ir.graph import Node, Role, Value
from tetrasim.sim.passes.contract import Match, Miss, other, scalar

_STEPS = ("MatMul", "Mul", "Div", "Add", "Where", "Cast", "Tanh", "Reshape")


@dataclass(frozen=True)
class RawMask:
    """A mask as it was found: on scores of `rank` axes; `inverted`: True hides a key. `chosen`: a boolean
    one, whose hidden scores become `hidden`."""

    value: Value
    inverted: bool
    rank: int
    hidden: float = -math.inf
    chosen: bool = False


@dataclass
class Found:
    """What has been read of the pattern so far. `lead`: batch and heads, when a reshape told them."""

    scale: float = 1.0
    softcap: float = 0.0
    masks: list[RawMask] = field(default_factory=list)
    parts: list[Node] = field(default_factory=list)
    lead: tuple[int, int] | None = None


def find_softmax(match: Match, value: Value | None, found: Found) -> Node | None:
    """The softmax behind the probabilities, through casts and Where(IsNaN(p), 0, p)."""
    for _ in range(6):
        node = match.producer(value, "Softmax", "Where", "Cast", "Reshape")
        if node is None:
            return None
        found.parts.append(node)
        if node.op == "Softmax":
            rank = len(node.outputs[0].type.shape)
            axis = node.attrs.get("axis", -1)
            if not isinstance(axis, int) or axis % rank != rank - 1:
                raise Miss(f"the softmax is over axis {axis}, not over the keys")
            return node
        if node.op == "Cast" or (node.op == "Reshape" and _regroups(node, found)):
            value = node.inputs[0]
            continue
        if node.op == "Reshape":
            return None
        guard = match.producer(node.inputs[0], "IsNaN")
        if guard is None or guard.inputs[0] is not node.inputs[2] or scalar(node.inputs[1]) != 0:
            return None
        found.parts.append(guard)
        value = node.inputs[2]
    return None


def find_product(match: Match, value: Value | None, found: Found) -> Node | None:
    """The product q k^T behind the softmax, through scale, mask, cap and casts."""
    for _ in range(10):
        node = match.producer(value, *_STEPS)
        if node is None:
            return None
        found.parts.append(node)
        if node.op == "MatMul":
            return node
        value = _step(match, node, found)
    return None


def _step(match: Match, node: Node, found: Found) -> Value | None:
    """One node between the softmax and the product; returns the next value towards the product."""
    if node.op == "Cast" or (node.op == "Reshape" and _regroups(node, found)):
        return node.inputs[0]
    rank = len(node.outputs[0].type.shape)
    if node.op in ("Mul", "Div"):
        return _scaled(match, node, found)
    if node.op == "Add":
        for value in node.inputs:
            mask = None if value is None else other(node, value)
            if mask is not None and _leads_to_product(match, value):
                # walking up from the softmax: a scale or cap seen already would act on the mask too
                if found.scale != 1.0 or found.softcap:
                    raise Miss(f"the mask '{mask.name}' is scaled after it was added")
                found.masks.append(RawMask(mask, False, rank))
                return value
        return None
    if node.op == "Where":
        condition, yes, no = node.inputs
        if condition is not None and _is_hidden(no):
            found.masks.append(RawMask(condition, False, rank, scalar(no) or 0.0, True))
            return yes
        if condition is not None and _is_hidden(yes):
            found.masks.append(RawMask(condition, True, rank, scalar(yes) or 0.0, True))
            return no
    return None


def _regroups(node: Node, found: Found) -> bool:
    """A reshape between [b * h, q, k] and [b, h, q, k]; it tells b and h."""
    source = node.inputs[0]
    if source is None:
        return False
    shapes = sorted((source.type.shape, node.outputs[0].type.shape), key=len)
    if [len(s) for s in shapes] != [3, 4] or shapes[0][1:] != shapes[1][2:]:
        return False
    found.lead = (shapes[1][0], shapes[1][1])
    return True


def _is_hidden(value: Value | None) -> bool:
    number = scalar(value)
    return number is not None and number <= -1e4


def _scaled(match: Match, node: Node, found: Found) -> Value | None:
    """A scalar factor, or the cap c * tanh(scores / c)."""
    for value in node.inputs:
        factor = None if value is None else scalar(other(node, value))
        if factor is None or value is None or (node.op == "Div" and value is not node.inputs[0]):
            continue
        capped = match.producer(value, "Tanh")
        if capped is not None and node.op == "Mul":
            inner = match.producer(capped.inputs[0], "Div", "Mul")
            ratio = scalar(inner.inputs[1]) if inner else None
            if inner is None or ratio is None:
                return None
            cap = ratio if inner.op == "Div" else 1 / ratio
            if not math.isclose(cap, factor, rel_tol=1e-6):
                raise Miss(f"the cap divides by {cap:g} and multiplies by {factor:g}")
            if found.scale != 1.0:
                raise Miss("the scores are scaled after they were capped")
            found.softcap = factor
            found.parts += [capped, inner]
            return inner.inputs[0]
        found.scale *= factor if node.op == "Mul" else 1 / factor
        return value
    return None


def _leads_to_product(match: Match, value: Value | None, depth: int = 8) -> bool:
    """True when the value is the scores' side of a sum: a product of activations behind scales and masks."""
    node = match.producer(value, *_STEPS)
    if node is None or depth == 0:
        return False
    if node.op == "MatMul":
        keys = node.inputs[1]
        return keys is not None and keys.role not in (Role.WEIGHT, Role.CONSTANT)
    return any(_leads_to_product(match, v, depth - 1) for v in node.inputs)
