"""Pass `attention`: scaled dot-product attention from its parts.

What: softmax(scale * q k^T + mask) v becomes Attention(q, k, v[, mask]). Scales on q, k or the scores are
multiplied together; masks whose structure is known before the run (causal, windows, blocks, documents: see
`ops/mask.py`) become attributes; repeated key heads (GQA), transposes around it and torch's guard against
rows without keys are absorbed. Why: no machine writes the scores to memory any more. When illegal: the scores
or probabilities have another reader, an additive mask is scaled after it was added, or the softmax is not
over the keys. A query that sees no key at all yields what it did: the average of all values where the file
writes a finite "minus infinity" (`blind`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import Array, Attr, Graph, Kind, Node, Role, TensorType, Value
from tetrasim.sim.ops.attention import CANONICAL
from tetrasim.sim.ops.folded import Folded
from tetrasim.sim.ops.mask import CAUSAL, FULL, Region, window_mask
from tetrasim.sim.ops.opdef import ShapeError, float_attr, int_attr, str_attr
from tetrasim.sim.ops.registry import infer
from tetrasim.sim.passes.attention_operands import four_axes, peel
from tetrasim.sim.passes.attention_scores import Found, RawMask, find_product, find_softmax
from tetrasim.sim.passes.contract import (
    Match,
    Miss,
    Note,
    Outcome,
    Pass,
    fresh,
    fused,
    helper,
    rewrite,
)
from tetrasim.sim.passes.masks import Reading, both, read_mask
from tetrasim.sim.passes.views import perm_of

_LETTERS = {2: "sd", 3: "bsd", 4: CANONICAL}


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op != "MatMul" or node.attrs:
        return None
    found = Found()
    soft = find_softmax(match, node.inputs[0], found)
    if soft is None:
        return None
    product = find_product(match, soft.inputs[0], found)
    if product is None:
        raise Miss("the softmax is not over a product of two activations")
    for part in found.parts:
        for value in part.outputs:
            if any(u is not node and u not in found.parts for u in match.consumers(value)) or (
                value in match.graph.outputs
            ):
                raise Miss(f"'{value.name}' inside the attention is also read elsewhere")
    return _build(match, node, product, found)


def _build(match: Match, node: Node, product: Node, found: Found) -> Sequence[Node]:
    """The Attention node, and what must stand in front of it."""
    q_in, k_in, v_in = product.inputs[0], product.inputs[1], node.inputs[1]
    assert q_in is not None
    assert k_in is not None
    assert v_in is not None
    scores, out = product.outputs[0].type.shape, node.outputs[0].type.shape
    rank = len(scores)
    if not 2 <= rank <= 4 or product.attrs.keys() - {"transB", "alpha"}:
        raise Miss(f"the product of q and k has {rank} axes, or a transposed q")
    found.scale *= float_attr(product.attrs, "alpha", 1.0)
    if rank > 2 and q_in.type.shape[0] != k_in.type.shape[0]:
        raise Miss(f"q {q_in.type.shape} and k {k_in.type.shape} have different batches")
    lead = found.lead or {2: (1, 1), 3: (scores[0], 1), 4: (scores[0], scores[min(1, rank - 1)])}[rank]
    letters = _LETTERS[rank]
    flipped = letters[:-2] + letters[-1] + letters[-2]
    sides = {
        "q": peel(match, q_in, letters, found, True),
        "k": peel(match, k_in, letters if product.attrs.get("transB") else flipped, found, True),
        "v": peel(match, v_in, _LETTERS[len(out)], found, False),
    }
    mask, before = _mask(match, node, found, lead, (scores[-2], scores[-1]))
    for name, side in sides.items():
        sides[name], views = four_axes(node, name, side, lead)
        before += views
    attrs: dict[str, Attr] = {"scale": found.scale}
    attrs |= {f"{n}_layout": s.layout for n, s in sides.items() if s.layout != CANONICAL}
    attrs |= _mask_attrs(mask)
    attrs |= {"softcap": found.softcap} if found.softcap else {}
    inputs = (*(s.value for s in sides.values()), mask.value)
    if mask.stopped:
        match.note(f"the mask is read at run time and priced as if it hid nothing: {mask.stopped}")
    return (*before, *_finish(node, inputs, attrs, [*found.parts, product]))


def _finish(
    node: Node, inputs: Sequence[Value | None], attrs: dict[str, Attr], parts: Sequence[Node]
) -> list[Node]:
    """Attention writes the root's output, through a reshape when the root had fewer than four axes."""
    type = _result_type(inputs, attrs)
    out = node.outputs[0]
    if len(out.type.shape) == 4:
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


def _mask(
    match: Match, node: Node, found: Found, lead: tuple[int, int], lengths: tuple[int, int]
) -> tuple[Reading, list[Node]]:
    """All masks as one, on scores [batch, heads, q, k]."""
    before: list[Node] = []
    result = Reading()
    alone = len(found.masks) == 1
    for i, raw in enumerate(found.masks):
        value = _inverted(node, i, raw.value, before) if raw.inverted else raw.value
        part = read_mask(match, value, *lengths)
        joint = both(result.mask, part.mask)
        finite = raw.hidden > -np.inf
        if joint is None or (part.blind and finite and not alone):
            part, joint = (
                Reading(value=value, stopped=part.stopped or "it is read beside others"),
                result.mask,
            )
        mine = part.value
        if mine is not None and finite and not alone and raw.chosen:
            mine = _as_bias(node, i, mine, raw.hidden, before)
        merged = result.value
        if mine is not None:
            mine = _on_four_axes(node, i, mine, raw, lead, before)
            merged = mine if merged is None else _both(node, i, merged, mine, before)
        blind = alone and finite and raw.chosen and (part.blind or part.value is not None)
        result = Reading(joint, merged, part.stopped or result.stopped, blind)
    return result, before


def _mask_attrs(mask: Reading) -> dict[str, Attr]:
    """The structure as attributes: the causal mask and its window have their own names."""
    blind: dict[str, Attr] = {"blind": "mean"} if mask.blind else {}
    if mask.mask == FULL:
        return blind
    if mask.mask == CAUSAL:
        return {"causal": 1} | blind
    only = mask.mask.regions[0]
    bands, plain = only.bands, replace(only, bands=()) == Region()
    if len(mask.mask.regions) == 1 and plain and len(bands) == 1 and (bands[0].unit, bands[0].low) == (1, 0):
        return {"causal": 1, "window": (bands[0].high or 0) + 1} | blind
    return {"visible": mask.mask.to_attr()} | blind


def _as_bias(node: Node, i: int, seen: Value, hidden: float, before: list[Node]) -> Value:
    """A boolean mask as what is added to the scores, where other masks decide about the same rows."""
    type = TensorType(seen.type.shape, Kind.FLOAT, 32)
    numbers = [
        replace(
            fresh(node, f"{name}{i}", replace(type, shape=()), Role.CONSTANT),
            data=Array(np.array(x, np.float32)),
        )
        for name, x in (("zero", 0.0), ("low", hidden))
    ]
    out = fresh(node, f"bias{i}", type)
    before.append(helper(node, f"bias{i}", "Where", (seen, *numbers), out, {}))
    return out


def _inverted(node: Node, i: int, value: Value, before: list[Node]) -> Value:
    """True where a key may be seen, from True where it is hidden."""
    mask = fresh(node, f"visible{i}", value.type)
    if value.data is None:
        before.append(helper(node, f"visible{i}", "Not", (value,), mask, {}))
        return mask
    return replace(mask, role=Role.CONSTANT, data=Folded("Not", (value.data,), {}, 0, value.type))


def _on_four_axes(
    node: Node, i: int, mask: Value, raw: RawMask, lead: tuple[int, int], before: list[Node]
) -> Value:
    """A mask [batch * heads or 1, q, k] as [batch, heads, q, k]."""
    shape = mask.type.shape
    if raw.rank != 3 or len(shape) != 3:
        return mask
    if shape[0] not in (1, lead[0] * lead[1]):
        raise Miss(f"the mask '{mask.name}' has {shape[0]} matrices, not {lead[0]} x {lead[1]}")
    wide = fresh(
        node, f"wide{i}", replace(mask.type, shape=(*((1, 1) if shape[0] == 1 else lead), *shape[1:]))
    )
    before.append(helper(node, f"wide{i}", "Reshape", (mask,), wide, {"shape": wide.type.shape}))
    return wide


def _both(node: Node, i: int, a: Value, b: Value, before: list[Node]) -> Value:
    """Two masks as one: the sum of additive ones, the conjunction of boolean ones, or the additive one where
    the boolean one lets a key be seen."""
    shape = np.broadcast_shapes(a.type.shape, b.type.shape)
    boolean = [v.type.kind is Kind.BOOL for v in (a, b)]
    out = fresh(node, f"mask{i}", replace(b.type if boolean[0] else a.type, shape=shape))
    if boolean[0] == boolean[1]:
        before.append(helper(node, f"mask{i}", "And" if boolean[0] else "Add", (a, b), out, {}))
        return out
    seen, bias = (a, b) if boolean[0] else (b, a)
    hidden = Array(np.array(-np.inf, dtype=np.float32))
    never = replace(fresh(node, f"hidden{i}", replace(bias.type, shape=()), Role.CONSTANT), data=hidden)
    before.append(helper(node, f"mask{i}", "Where", (seen, bias, never), out, {}))
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
    found = Found(scale=float_attr(node.attrs, "scale", 1.0))
    sides = []
    for i, name in enumerate("qkv"):
        value = node.inputs[i]
        assert value is not None
        layout = str_attr(node.attrs, f"{name}_layout", CANONICAL)
        sides.append(peel(match, value, layout, found, name != "v"))
    causal, window = bool(node.attrs.get("causal")), int_attr(node.attrs, "window", 0)
    value = node.inputs[3] if len(node.inputs) > 3 else None
    own = window_mask(window) if causal and window else CAUSAL if causal else FULL
    mask = Reading(own, value)
    if value is not None and "visible" not in node.attrs and not (window and not causal):
        lengths = [s.value.type.shape[s.layout.index("s")] for s in sides[:2]]
        part = read_mask(match, value, lengths[0], lengths[1])
        joint = both(own, part.mask)
        if joint is not None:
            mask = Reading(joint, part.value, part.stopped)
    if not found.parts and mask.value is value:
        return None
    attrs: dict[str, Attr] = {
        k: v for k, v in node.attrs.items() if not k[1:].startswith("_layout") or k[0] == "o"
    }
    attrs |= {"scale": found.scale}
    attrs |= {f"{n}_layout": s.layout for n, s in zip("qkv", sides, strict=True) if s.layout != CANONICAL}
    if "visible" not in attrs and not (window and not causal):
        attrs = {k: v for k, v in attrs.items() if k not in ("causal", "window")} | _mask_attrs(mask)
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
