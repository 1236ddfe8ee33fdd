"""Linear attention with a state per head, as ONNX defines it (opset 27): linear, gated, delta, gated delta.

Priced as the chunk-parallel algorithm of Yang et al. (arXiv:2406.06484, section 3): per token and head the
state is read and updated (2 dk dv products); inside a chunk of c tokens scores and values take (c + 1)/2
(dk + dv), and the delta rule's triangular system adds the same again and one more product with the state
(dk dv). A single token is a chunk of one.
"""

from __future__ import annotations

import math

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    as_float,
    float_attr,
    have,
    int_attr,
    maybe,
    need,
    reads,
    reshaped,
    str_attr,
    writes,
)
from tetrasim.sim.ops.work import Gemm, Work, WorkKind

RULES = ("linear", "gated", "delta", "gated_delta")


def _dims(types: Types, attrs: Attrs) -> tuple[int, int, int, int, int, int]:
    """Batch, tokens, query heads, key heads, key width, value width."""
    q, k, v = (need(types, i) for i in range(3))
    heads, groups = int_attr(attrs, "q_num_heads"), int_attr(attrs, "kv_num_heads")
    if len(q.shape) != 3 or heads % groups or k.shape[2] % groups or v.shape[2] % groups:
        raise ShapeError(
            f"q {q.shape}, k {k.shape}, v {v.shape} do not split into {heads} and {groups} heads"
        )
    dk, dv = k.shape[2] // groups, v.shape[2] // groups
    if q.shape[2] != heads * dk:
        raise ShapeError(f"q has {q.shape[2]} columns, not {heads} x {dk}")
    return q.shape[0], q.shape[1], heads, groups, dk, dv


def _rule(attrs: Attrs) -> str:
    rule = str_attr(attrs, "update_rule", "gated_delta")
    if rule not in RULES:
        raise ShapeError(f"update rule '{rule}' is not one of {', '.join(RULES)}")
    return rule


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    batch, tokens, heads, groups, dk, dv = _dims(types, attrs)
    rule = _rule(attrs)
    if "gated" in rule:
        need(types, 4)
    if "delta" in rule:
        need(types, 5)
    q = need(types, 0)
    return reshaped(q, (batch, tokens, heads * dv)), reshaped(q, (batch, groups, dk, dv))


def _attend(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    q, k, v = (as_float(have(arrays, i)) for i in range(3))
    batch, tokens = q.shape[:2]
    heads, groups = int_attr(attrs, "q_num_heads"), int_attr(attrs, "kv_num_heads")
    rule = _rule(attrs)
    k, v = k.reshape(batch, tokens, groups, -1), v.reshape(batch, tokens, groups, -1)
    dk, dv = k.shape[-1], v.shape[-1]
    q = q.reshape(batch, tokens, groups, heads // groups, dk)
    scale = float_attr(attrs, "scale", 0.0) or 1 / math.sqrt(dk)
    past, decay, rate = maybe(arrays, 3), maybe(arrays, 4), maybe(arrays, 5)
    state = np.zeros((batch, groups, dk, dv), dtype=q.dtype) if past is None else as_float(past)
    out = np.empty((batch, tokens, groups, heads // groups, dv), dtype=q.dtype)
    for t in range(tokens):
        if "gated" in rule and decay is not None:
            state = state * np.exp(as_float(decay[:, t])).reshape(batch, groups, -1, 1)
        update = v[:, t]
        if "delta" in rule and rate is not None:
            beta = as_float(rate[:, t]).reshape(batch, -1, 1)
            update = beta * (update - np.einsum("bgkv,bgk->bgv", state, k[:, t]))
        state = state + k[:, t][..., None] * update[:, :, None]
        out[:, t] = scale * np.einsum("bghk,bgkv->bghv", q[:, t], state)
    return out.reshape(batch, tokens, heads * dv), state


def _work(node: Node) -> Work:
    """The products as one batched GEMM per head: m tokens, n value columns, k what each of them costs."""
    types = [None if v is None else v.type for v in node.inputs]
    batch, tokens, heads, _, dk, dv = _dims(types, node.attrs)
    chunk = min(tokens, max(int_attr(node.attrs, "chunk_size", 64), 1))
    inside = (chunk + 1) * (dk + dv) // 2 if chunk > 1 else 0
    delta = inside + dk * dv if "delta" in _rule(node.attrs) else 0
    per_token = 2 * dk * dv + inside + delta
    gemm = Gemm(batch * heads, tokens, dv, math.ceil(per_token / dv), weight_is_b=False)
    return Work(node.op, WorkKind.GEMM, reads(node), writes(node), gemm=gemm)


OPS = {"LinearAttention": OpDef(_type, _attend, _work)}
