"""Pass `attention`: scaled dot-product attention from its parts.

What: softmax(scale * q k^T + mask) v becomes Attention(q, k, v[, mask]). Scales on q, k or the scores are
multiplied together; causal and sliding-window masks become attributes; repeated key heads (GQA), transposes
around it and torch's guard against rows without keys are absorbed. Why: no machine writes the scores to
memory any more. When illegal: the scores or probabilities have another reader, an additive mask is scaled
after it was added, or the softmax is not over the keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tetrasim.sim.ir.graph import Array, Attr, Graph, Kind, Node, Role, TensorType, Value
from tetrasim.sim.ops.attention import CANONICAL
from tetrasim.sim.ops.opdef import ShapeError, float_attr, int_attr, str_attr
from tetrasim.sim.ops.registry import infer
from tetrasim.sim.passes.contract import (
    Match,
    Miss,
    Note,
    Outcome,
    Pass,
    fresh,
    fused,
    helper,
    other,
    rewrite,
    scalar,
)
from tetrasim.sim.passes.masks import Mask, read_mask
from tetrasim.sim.passes.views import perm_of


@dataclass
class _Found:
    """What has been read of the pattern so far."""

    scale: float = 1.0
    softcap: float = 0.0
    masks: list[tuple[Value, bool]] = field(default_factory=list)  # (mask, True: boolean and to be inverted)
    parts: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class _Side:
    """One of q, k, v: the value to read and the order of its axes."""

    value: Value
    layout: str


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op != "MatMul" or node.attrs:
        return None
    found = _Found()
    soft = _softmax(match, node.inputs[0], found)
    if soft is None:
        return None
    product = _scores(match, soft.inputs[0], found)
    if product is None:
        raise Miss("the softmax is not over a product of two activations")
    for part in found.parts:
        for value in part.outputs:
            if any(u is not node and u not in found.parts for u in match.consumers(value)) or (
                value in match.graph.outputs
            ):
                raise Miss(f"'{value.name}' inside the attention is also read elsewhere")
    return _build(match, node, product, found)


def _softmax(match: Match, value: Value | None, found: _Found) -> Node | None:
    """The softmax behind the probabilities, through casts and Where(IsNaN(p), 0, p)."""
    for _ in range(6):
        node = match.producer(value, "Softmax", "Where", "Cast")
        if node is None:
            return None
        found.parts.append(node)
        if node.op == "Softmax":
            rank = len(node.outputs[0].type.shape)
            axis = node.attrs.get("axis", -1)
            if not isinstance(axis, int) or axis % rank != rank - 1:
                raise Miss(f"the softmax is over axis {axis}, not over the keys")
            return node
        if node.op == "Cast":
            value = node.inputs[0]
            continue
        guard = match.producer(node.inputs[0], "IsNaN")
        if guard is None or guard.inputs[0] is not node.inputs[2] or scalar(node.inputs[1]) != 0:
            return None
        found.parts.append(guard)
        value = node.inputs[2]
    return None


def _scores(match: Match, value: Value | None, found: _Found) -> Node | None:
    """The product q k^T behind the softmax, through scale, mask, cap and casts."""
    for _ in range(10):
        node = match.producer(value, "MatMul", "Mul", "Div", "Add", "Where", "Cast", "Tanh")
        if node is None:
            return None
        found.parts.append(node)
        if node.op == "MatMul":
            return node
        value = _step(match, node, found)
    return None


def _step(match: Match, node: Node, found: _Found) -> Value | None:
    """One node between the softmax and the product; returns the next value towards the product."""
    if node.op == "Cast":
        return node.inputs[0]
    if node.op in ("Mul", "Div"):
        return _scaled(match, node, found)
    if node.op == "Add":
        for value in node.inputs:
            mask = None if value is None else other(node, value)
            if mask is not None and _leads_to_product(match, value):
                # walking up from the softmax: a scale or cap seen already would act on the mask too
                if found.scale != 1.0 or found.softcap:
                    raise Miss(f"the mask '{mask.name}' is scaled after it was added")
                found.masks.append((mask, False))
                return value
        return None
    if node.op == "Where":
        condition, yes, no = node.inputs
        if condition is not None and _is_hidden(no):
            found.masks.append((condition, False))
            return yes
        if condition is not None and _is_hidden(yes):
            found.masks.append((condition, True))
            return no
    return None


def _is_hidden(value: Value | None) -> bool:
    number = scalar(value)
    return number is not None and number <= -1e4


def _scaled(match: Match, node: Node, found: _Found) -> Value | None:
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
    node = match.producer(value, "MatMul", "Mul", "Div", "Add", "Where", "Cast", "Tanh")
    if node is None or depth == 0:
        return False
    if node.op == "MatMul":
        return all(v is not None and v.role not in (Role.WEIGHT, Role.CONSTANT) for v in node.inputs)
    return any(_leads_to_product(match, v, depth - 1) for v in node.inputs)


def _peel(match: Match, value: Value, layout: str, found: _Found, scaled: bool) -> _Side:
    """Walk back from an operand of a product through scalar factors (when `scaled`), transposes and
    repeated heads to the tensor that attention should read."""
    while True:
        node = match.producer(value, "Mul", "Div", "Transpose", "Reshape")
        if node is None or value in match.graph.outputs:
            return _Side(value, layout)
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
            return _Side(value, layout)
        found.parts.append(node)
        value = source


def _factor(node: Node, found: _Found) -> Value | None:
    for value in node.inputs if node.op == "Mul" else node.inputs[:1]:
        factor = None if value is None else scalar(other(node, value))
        if factor is not None:
            found.scale *= factor if node.op == "Mul" else 1 / factor
            return value
    return None


def _unrepeated(match: Match, node: Node, axis: int, found: _Found) -> Value | None:
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


def _build(match: Match, node: Node, product: Node, found: _Found) -> Sequence[Node]:
    """The Attention node, and what must stand in front of it."""
    q_in, k_in, v_in = product.inputs[0], product.inputs[1], node.inputs[1]
    assert q_in is not None
    assert k_in is not None
    assert v_in is not None
    rank = len(q_in.type.shape)
    if not 2 <= rank <= 4 or product.attrs.keys() - {"transB"}:
        raise Miss(f"the products have {rank} axes or scale factors of their own")
    if rank > 2 and q_in.type.shape[0] != k_in.type.shape[0]:
        raise Miss(f"q {q_in.type.shape} and k {k_in.type.shape} have different batches")
    letters = CANONICAL if rank == 4 else {2: "sd", 3: "bsd"}[rank]
    flipped = letters[:-2] + letters[-1] + letters[-2]
    q = _peel(match, q_in, letters, found, True)
    k = _peel(match, k_in, letters if product.attrs.get("transB") else flipped, found, True)
    v = _peel(match, v_in, letters, found, False)
    scores = product.outputs[0].type.shape
    mask, before = _mask(match, node, found, scores[-2], scores[-1])
    sides = []
    for name, side in (("q", q), ("k", k), ("v", v)):
        side4, extra = _four_axes(node, name, side)
        sides.append(side4)
        before += extra
    if rank == 3 and mask.value is not None and len(mask.value.type.shape) == 3:
        shape = mask.value.type.shape
        wide = fresh(node, "mask", replace(mask.value.type, shape=(shape[0], 1, *shape[1:])))
        before.append(helper(node, "mask", "Reshape", (mask.value,), wide, {"shape": wide.type.shape}))
        mask = replace(mask, value=wide)
    attrs: dict[str, Attr] = {"scale": found.scale}
    attrs |= {f"{n}_layout": s.layout for n, s in zip("qkv", sides, strict=True) if s.layout != CANONICAL}
    attrs |= {"causal": 1} if mask.causal else {}
    attrs |= {"window": mask.window} if mask.window else {}
    attrs |= {"softcap": found.softcap} if found.softcap else {}
    inputs = (*(s.value for s in sides), mask.value)
    return (*before, *_finish(node, inputs, attrs, [*found.parts, product], rank))


def _finish(
    node: Node, inputs: Sequence[Value | None], attrs: dict[str, Attr], parts: Sequence[Node], rank: int
) -> list[Node]:
    """Attention writes the root's output, through a reshape when the root had fewer than four axes."""
    type = _result_type(inputs, attrs)
    out = node.outputs[0]
    if rank == 4:
        if type.shape != out.type.shape:
            raise Miss(f"its result would be {type.shape}, not {out.type.shape}")
        return [fused(node, "Attention", inputs, attrs, parts)]
    inner = fresh(node, "attention", type)
    core = replace(fused(node, "Attention", inputs, attrs, parts, (inner,)), name=f"{node.name}/attention")
    return [core, fused(node, "Reshape", (inner,), {"shape": out.type.shape}, ())]


def _result_type(inputs: Sequence[Value | None], attrs: dict[str, Attr]) -> TensorType:
    try:
        return infer("Attention", [None if v is None else v.type for v in inputs], attrs)[0]
    except ShapeError as error:
        raise Miss(error.what) from error


def _four_axes(node: Node, name: str, side: _Side) -> tuple[_Side, list[Node]]:
    """Three- and two-axis operands get a head axis (and a batch axis) of one."""
    if len(side.layout) == 4:
        return side, []
    shape = list(side.value.type.shape)
    layout = side.layout
    if "b" not in layout:
        shape, layout = [1, *shape], "b" + layout
    at = layout.index("b") + 1
    shape.insert(at, 1)
    layout = layout[:at] + "h" + layout[at:]
    wide = fresh(node, name, replace(side.value.type, shape=tuple(shape)))
    view = helper(node, name, "Reshape", (side.value,), wide, {"shape": tuple(shape)})
    return _Side(wide, layout), [view]


def _mask(match: Match, node: Node, found: _Found, q_len: int, kv_len: int) -> tuple[Mask, list[Node]]:
    """All masks as one."""
    before: list[Node] = []
    result = Mask()
    for i, (value, inverted) in enumerate(found.masks):
        mask = value
        if inverted:
            mask = fresh(node, f"visible{i}", value.type)
            if value.data is not None:
                flipped = np.logical_not(np.asarray(value.data.load()))
                mask = replace(mask, role=Role.CONSTANT, data=Array(flipped))
            else:
                before.append(helper(node, f"visible{i}", "Not", (value,), mask, {}))
        part = read_mask(match, mask, q_len, kv_len)
        if part.window and result.window and part.window != result.window:
            raise Miss("two sliding windows of different width")
        merged = result.value
        if part.value is not None:
            merged = part.value if merged is None else _both(node, i, merged, part.value, before)
        result = Mask(result.causal or part.causal, result.window or part.window, merged)
    return result, before


def _both(node: Node, i: int, a: Value, b: Value, before: list[Node]) -> Value:
    """Two masks: the sum of additive ones, the conjunction of boolean ones."""
    if (a.type.kind is Kind.BOOL) != (b.type.kind is Kind.BOOL):
        raise Miss(f"masks '{a.name}' and '{b.name}' are of different kinds")
    shape = np.broadcast_shapes(a.type.shape, b.type.shape)
    out = fresh(node, f"mask{i}", TensorType(shape, a.type.kind, a.type.bits))
    before.append(helper(node, f"mask{i}", "And" if a.type.kind is Kind.BOOL else "Add", (a, b), out, {}))
    return out


def _absorb_output(match: Match, node: Node) -> Sequence[Node] | None:
    """Transpose(Attention) -> Attention that writes in that order."""
    if node.op != "Transpose" or len(node.outputs[0].type.shape) != 4:
        return None
    attention = match.producer(node.inputs[0], "Attention")
    if attention is None or "o_layout" in attention.attrs or not match.used_once(attention.outputs[0]):
        return None
    layout = "".join(CANONICAL[p] for p in perm_of(node))
    attrs: dict[str, Attr] = {**attention.attrs, "o_layout": layout}
    return (fused(node, "Attention", attention.inputs, attrs, (attention,)),)


def _absorb_inputs(match: Match, node: Node) -> Sequence[Node] | None:
    """Attention that the file has as one op: absorb scales, transposes, repeated heads and causal masks."""
    if node.op != "Attention":
        return None
    found = _Found(scale=float_attr(node.attrs, "scale", 1.0))
    sides = []
    for i, name in enumerate("qkv"):
        value = node.inputs[i]
        assert value is not None
        layout = str_attr(node.attrs, f"{name}_layout", CANONICAL)
        sides.append(_peel(match, value, layout, found, name != "v"))
    causal, window = bool(node.attrs.get("causal")), int_attr(node.attrs, "window", 0)
    value = node.inputs[3] if len(node.inputs) > 3 else None
    mask = Mask(causal, window, value)
    if value is not None and not window:
        lengths = [s.value.type.shape[s.layout.index("s")] for s in sides[:2]]
        part = read_mask(match, value, lengths[0], lengths[1])
        if not (causal and part.window):
            mask = Mask(causal or part.causal, part.window, part.value)
    if not found.parts and mask.value is value:
        return None
    attrs: dict[str, Attr] = {
        k: v for k, v in node.attrs.items() if not k[1:].startswith("_layout") or k[0] == "o"
    }
    attrs |= {"scale": found.scale}
    attrs |= {f"{n}_layout": s.layout for n, s in zip("qkv", sides, strict=True) if s.layout != CANONICAL}
    attrs |= {"causal": 1} if mask.causal else {}
    attrs |= {"window": mask.window} if mask.window else {}
    inputs = (*(s.value for s in sides), mask.value)
    _result_type(inputs, attrs)
    return (fused(node, "Attention", inputs, attrs, found.parts),)


def run(graph: Graph) -> Outcome:
    """Apply the pass: recover attention, then absorb what stands around it."""
    notes: list[Note] = []
    changed = False
    for rule in (_rule, _absorb_inputs, _absorb_output):
        outcome = rewrite(graph, "attention", rule)
        graph, changed = outcome.graph, changed or outcome.changed
        notes.extend(outcome.notes)
    return Outcome(graph, changed, tuple(notes))


PASS = Pass("attention", run, "scores never leave attention", requires=("views",))
