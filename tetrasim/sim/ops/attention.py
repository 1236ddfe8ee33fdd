"""Attention as one op, and rotary position embedding.

`Attention(q, k, v[, mask])` is scaled dot-product attention on 4-d tensors. `q_layout`, `k_layout`,
`v_layout`, `o_layout` name the order of their axes (b batch, h heads, s tokens, d width): fused kernels
read and write strided tensors, so a transpose around attention is a layout, not work. With fewer key heads
than query heads, each key head serves a group (GQA). `causal`: query i sees keys up to kv_len - q_len + i.
`window` w > 0: and only the last w of them. `visible`: any other structure (see `mask.py`), as text. The
additive or boolean `mask` broadcasts to [b, h, q, k]. `softcap` c > 0: scores become c tanh(scores / c).
A query that may see no key yields zeros, as in torch; with `blind` "mean" the average of all values, as a
softmax over equal numbers does (masks that write a finite "minus infinity").
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from tetrasim.sim.ir.graph import Kind, Node, TensorType, Value
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.mask import Mask, Pattern, mask_of, pattern_of
from tetrasim.sim.ops.normalisation import softmax
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    as_float,
    broadcast,
    float_attr,
    have,
    int_attr,
    maybe,
    need,
    reads,
    reshaped,
    str_attr,
    vector_work,
    writes,
)
from tetrasim.sim.ops.work import AttentionShape, Operand, Work, WorkKind

CANONICAL = "bhsd"


def _perm(layout: str) -> tuple[int, ...]:
    if sorted(layout) != sorted(CANONICAL):
        raise ShapeError(f"attention layout '{layout}' is not an order of '{CANONICAL}'")
    return tuple(layout.index(c) for c in CANONICAL)


def _dims(types: Types, attrs: Attrs, index: int, name: str) -> tuple[int, int, int, int]:
    shape = need(types, index).shape
    if len(shape) != 4:
        raise ShapeError(f"attention input {index} must have 4 axes, not {shape}")
    b, h, s, d = (shape[p] for p in _perm(str_attr(attrs, name, CANONICAL)))
    return b, h, s, d


def _infer(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    b, h, s, d = _dims(types, attrs, 0, "q_layout")
    kb, kh, t, kd = _dims(types, attrs, 1, "k_layout")
    vb, vh, vt, vd = _dims(types, attrs, 2, "v_layout")
    if (kb, kh, t) != (vb, vh, vt) or kd != d or b != kb or h % kh:
        raise ShapeError(
            f"attention shapes do not fit: q {(b, h, s, d)}, k {(kb, kh, t, kd)}, v {(vb, vh, vt, vd)}"
        )
    if len(types) > 3 and types[3] is not None:
        broadcast(types[3].shape, (b, h, s, t))
    out = dict(zip(CANONICAL, (b, h, s, vd), strict=True))
    return (reshaped(need(types, 0), tuple(out[c] for c in str_attr(attrs, "o_layout", CANONICAL))),)


def causal_mask(q_len: int, kv_len: int, window: int = 0) -> Arr:
    """True where query i may see key j: j <= kv_len - q_len + i, and j among the last `window` of these."""
    visible = np.tril(np.ones((q_len, kv_len), dtype=bool), kv_len - q_len)
    return np.triu(visible, kv_len - q_len - window + 1) if window else visible


def _reference(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    q, k, v = (
        as_float(have(arrays, i)).transpose(_perm(str_attr(attrs, f"{n}_layout", CANONICAL)))
        for i, n in enumerate("qkv")
    )
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    scale = q.dtype.type(float_attr(attrs, "scale", 1 / math.sqrt(q.shape[-1])))
    scores = np.asarray(arith.matmul(q * scale, np.swapaxes(k, -1, -2)))
    cap = float_attr(attrs, "softcap", 0.0)
    if cap:
        scores = scores.dtype.type(cap) * np.asarray(arith.function("tanh", scores / scores.dtype.type(cap)))
    mask = maybe(arrays, 3)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if int_attr(attrs, "causal", 0):
        visible = causal_mask(scores.shape[-2], scores.shape[-1], int_attr(attrs, "window", 0))
        scores = np.where(visible, scores, -np.inf)
    structure = attrs.get("visible")
    if isinstance(structure, tuple):
        seen = mask_of(tuple(map(str, structure))).dense(*scores.shape[-2:])
        scores = np.where(seen, scores, -np.inf)
    if str_attr(attrs, "blind", "zero") == "mean":
        scores = np.where(np.all(scores == -np.inf, axis=-1, keepdims=True), scores.dtype.type(0), scores)
    with np.errstate(invalid="ignore"):
        weights = softmax(scores.astype(q.dtype), -1, arith)
    blind = np.all(scores == -np.inf, axis=-1, keepdims=True)
    out = np.asarray(arith.matmul(np.where(blind, 0, weights).astype(q.dtype), v))
    layout = str_attr(attrs, "o_layout", CANONICAL)
    return (np.asarray(out.transpose([CANONICAL.index(c) for c in layout]), order="C"),)


def attention_shape(node: Node) -> AttentionShape:
    """The cost-relevant dimensions of an `Attention` node."""
    types = [None if v is None else v.type for v in node.inputs]
    b, h, s, d = _dims(types, node.attrs, 0, "q_layout")
    _, g, t, _ = _dims(types, node.attrs, 1, "k_layout")
    vd = _dims(types, node.attrs, 2, "v_layout")[3]
    causal = bool(int_attr(node.attrs, "causal", 0))
    biased = len(node.inputs) > 3 and node.inputs[3] is not None
    # one query sees every key: the causal mask is empty
    window = int_attr(node.attrs, "window", 0)
    turned = "".join(n for n in "qkvo" if str_attr(node.attrs, f"{n}_layout", CANONICAL) != CANONICAL)
    structure = node.attrs.get("visible")
    mask: Mask | Pattern | None = None
    if isinstance(structure, tuple):
        mask = mask_of(tuple(map(str, structure)))
    elif biased and not causal:
        mask = constant_pattern(node.inputs[3], s, t)
    return AttentionShape(b, s, h, g, d, vd, t, causal and s > 1, window, biased, turned, mask)


HIDDEN = -1e4  # an additive mask value at or below this hides a key
MOST_ELEMENTS = 1 << 28  # larger constants are not looked into


@lru_cache(maxsize=256)
def constant_pattern(value: Value | None, q_len: int, kv_len: int) -> Pattern | None:
    """What a constant mask leaves, where one matrix serves all heads; None when nothing is hidden, when it
    differs by head or sequence, is too large, or is computed from inputs."""
    matrix = constant_matrix(value, q_len, kv_len)
    if matrix is None:
        return None
    visible = matrix if matrix.dtype == bool else matrix > HIDDEN
    return None if visible.all() else pattern_of(np.ascontiguousarray(visible))


def constant_matrix(value: Value | None, q_len: int, kv_len: int) -> Arr | None:
    """A constant mask as [q_len, kv_len]; None when it is no single matrix, or too large to look into."""
    if value is None or value.data is None or value.type.kind is Kind.INT:
        return None
    if value.type.elements > MOST_ELEMENTS or any(d != 1 for d in value.type.shape[:-2]):
        return None
    array = np.asarray(value.data.load())
    return np.broadcast_to(array.reshape(array.shape[-2:]), (q_len, kv_len))


def _work(node: Node) -> Work:
    shape = attention_shape(node)
    operands = reads(node, {"q": 0, "k": 1, "v": 2, "mask": 3})
    if shape.window or shape.mask is not None:
        seen = shape.visible.keys_touched(shape.q_len, shape.kv_len)
        operands = tuple(_touched(o, seen, shape.kv_len) for o in operands)
    return Work(node.op, WorkKind.ATTENTION, operands, writes(node), attention=shape)


def _touched(operand: Operand, seen: int, keys: int) -> Operand:
    """Keys and values that no query sees are not read."""
    if not {"k", "v"} & set(operand.fills) or "q" in operand.fills:
        return operand
    return replace(operand, touched_elements=operand.elements // keys * seen)


def _rotate_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    layout = str_attr(attrs, "x_layout")
    shape = tuple(x.shape[p] for p in _perm(layout)) if layout else x.shape
    for i in (1, 2):
        width = need(types, i).shape[-1:]
        broadcast((*need(types, i).shape[:-1], 1), (*shape[:-1], 1))
        rotated = int_attr(attrs, "rotary_dim", 0) or shape[-1]
        if rotated not in (*width, *(2 * w for w in width)):
            raise ShapeError(f"cos and sin of width {width} for {rotated} rotated columns")
    return (reshaped(x, shape),)


def _rotate(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """x cos + turn(x) sin over the first `rotary_dim` of the last axis; cos and sin broadcast to x and
    have its width (halves repeated) or half of it. `x_layout`: order of x's axes, the result is bhsd."""
    x, cos, sin = (as_float(have(arrays, i)) for i in range(3))
    layout = str_attr(attrs, "x_layout")
    if layout:
        x = x.transpose(_perm(layout))
    width = int_attr(attrs, "rotary_dim", 0) or x.shape[-1]
    part, rest = x[..., :width], x[..., width:]
    pairs = bool(int_attr(attrs, "interleaved", 0))
    if cos.shape[-1] * 2 == width:
        cos, sin = (np.repeat(c, 2, -1) if pairs else np.concatenate([c, c], -1) for c in (cos, sin))
    if pairs:
        turned = np.stack([-part[..., 1::2], part[..., 0::2]], axis=-1).reshape(part.shape)
    else:
        half = width // 2
        turned = np.concatenate([-part[..., half:], part[..., :half]], axis=-1)
    return (np.concatenate([part * cos + turned * sin, rest], axis=-1),)


def _rotate_work(node: Node) -> Work:
    # two products and one sum per element; the swap of halves is addressing
    return vector_work(node, {"mul": 2, "add": 1})


OPS = {
    "Attention": OpDef(_infer, _reference, _work),
    "RotaryEmbedding": OpDef(_rotate_type, _rotate, _rotate_work),
}
