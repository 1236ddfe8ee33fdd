"""ORT's attention ops (packed, multi-head, grouped with a cache) in the form of `sim/ops/attention.py`.

Source of the semantics: onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

import numpy as np

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.frontend.onnx.heads import HEADS_LAST, append, heads_first, split_heads
from tetrasim.frontend.onnx.rules.standard.attention import emit_attention, emit_rotary
from tetrasim.sim.ir.graph import Attr, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr, ints_attr


def _visible(call: Call, mask: Value | None, keys: int, name: str) -> Value | None:
    """A padding mask [batch, keys] of 0 and 1 -> boolean [batch, 1, 1, keys]."""
    if mask is None:
        return None
    if len(mask.type.shape) != 2 or mask.type.shape[1] != keys:
        raise call.refuse(f"a mask of shape {mask.type.shape} is not supported", "use a mask [batch, keys]")
    (seen,) = call.emit("Cast", [mask], {"to": "bool"}, [f"{name}/seen"])
    batch = mask.type.shape[0]
    return call.emit("Reshape", [seen], {"shape": (batch, 1, 1, keys)}, [f"{name}/visible"])[0]


def _scale(call: Call, width: int) -> float:
    return float_attr(call.attrs, "scale", 0.0) or 1 / float(np.sqrt(width))


def _packed_attention(call: Call) -> tuple[Value | None, ...]:
    """Attention: the input times packed q, k, v weights, then attention."""
    x, weight, bias = call.need(0), call.need(1), call.maybe(2)
    if call.maybe(4) is not None or call.out(1):
        raise call.refuse("its packed past is not supported", "export separate past_key and past_value")
    heads, name = int_attr(call.attrs, "num_heads"), call.out(0)
    sizes = ints_attr(call.attrs, "qkv_hidden_sizes", (weight.type.shape[1] // 3,) * 3)
    op = "Gemm" if bias is not None else "MatMul"
    (qkv,) = call.emit(op, [x, weight, bias] if bias is not None else [x, weight], {}, [f"{name}/qkv"])
    parts = call.emit("Split", [qkv], {"axis": -1, "split": sizes}, [f"{name}/{n}" for n in "qkv"])
    q, k, v = (split_heads(call, p, heads, f"{name}/{n}4") for p, n in zip(parts, "qkv", strict=True))
    attrs: dict[str, Attr] = {"scale": _scale(call, q.type.shape[-1])}
    if int_attr(call.attrs, "unidirectional", 0):
        attrs["causal"] = 1
    mask = _joined(call, _visible(call, call.maybe(3), k.type.shape[1], name), call.maybe(5), name)
    return (emit_attention(call, q, k, v, mask, attrs, [HEADS_LAST] * 3, True, name),)


def _joined(call: Call, padding: Value | None, bias: Value | None, name: str) -> Value | None:
    if padding is None or bias is None:
        return padding if bias is None else bias
    zero = call.builder.constant(f"{name}/zero", np.array(0, dtype=np.float32))
    hidden = call.builder.constant(f"{name}/hidden", np.array(-np.inf, dtype=np.float32))
    (additive,) = call.emit("Where", [padding, zero, hidden], {}, [f"{name}/padding"])
    return call.emit("Add", [additive, bias], {}, [f"{name}/bias"])[0]


def _multi_head(call: Call) -> tuple[Value | None, ...]:
    """MultiHeadAttention: q, k, v [batch, tokens, width] with an optional shared bias and past."""
    q, k, v = call.need(0), call.maybe(1), call.maybe(2)
    heads, name = int_attr(call.attrs, "num_heads"), call.out(0)
    if k is None or v is None or len(q.type.shape) != 3:
        raise call.refuse("packed q, k, v are not supported")
    bias = call.maybe(3)
    if bias is not None:
        widths = (q.type.shape[-1], q.type.shape[-1], bias.type.shape[0] - 2 * q.type.shape[-1])
        parts = call.emit("Split", [bias], {"axis": 0, "split": widths}, [f"{name}/b{n}" for n in "qkv"])
        (q,) = call.emit("Add", [q, parts[0]], {}, [f"{name}/q"])
        if len(k.type.shape) == 3:
            (k,) = call.emit("Add", [k, parts[1]], {}, [f"{name}/k"])
            (v,) = call.emit("Add", [v, parts[2]], {}, [f"{name}/v"])
    layouts = [HEADS_LAST, "bhsd", "bhsd"]
    q = split_heads(call, q, heads, f"{name}/q4")
    if len(k.type.shape) == 3:
        k, v = split_heads(call, k, heads, f"{name}/k4"), split_heads(call, v, heads, f"{name}/v4")
        if call.maybe(6) is None and not call.out(1):
            layouts = [HEADS_LAST] * 3
        else:
            k, v = heads_first(call, k, f"{name}/k5"), heads_first(call, v, f"{name}/v5")
    k = append(call, call.maybe(6), k, call.out(1) or f"{name}/keys")
    v = append(call, call.maybe(7), v, call.out(2) or f"{name}/values")
    attrs: dict[str, Attr] = {"scale": _scale(call, q.type.shape[-1])}
    if int_attr(call.attrs, "unidirectional", 0):
        attrs["causal"] = 1
    keys = k.type.shape[layouts[1].index("s")]
    mask = _joined(call, _visible(call, call.maybe(4), keys, name), call.maybe(5), name)
    return emit_attention(call, q, k, v, mask, attrs, layouts, True, name), k, v


def _group_query(call: Call) -> tuple[Value | None, ...]:
    """GroupQueryAttention of ORT's LLM builder: causal, cached, rotary inside. The cache is taken to grow by
    the new tokens, all sequences of the batch being equally long (`seqlens_k` is not read)."""
    q, k, v = call.need(0), call.maybe(1), call.maybe(2)
    heads, groups = int_attr(call.attrs, "num_heads"), int_attr(call.attrs, "kv_num_heads")
    name = call.out(0)
    if k is None or v is None:
        width = q.type.shape[-1] // (heads + 2 * groups)
        sizes = (heads * width, groups * width, groups * width)
        q, k, v = call.emit("Split", [q], {"axis": -1, "split": sizes}, [f"{name}/{n}" for n in "qkv"])
    tokens = q.type.shape[1]
    past = call.maybe(3)
    before = past.type.shape[2] if past is not None else 0
    if int_attr(call.attrs, "do_rotary", 0):
        index = np.arange(before, before + tokens, dtype=np.int64)[None]
        place = call.builder.constant(f"{name}/positions", index)
        cos, sin = call.need(7), call.need(8)
        turn = Call(
            call.builder, call.proto, (), {"interleaved": int_attr(call.attrs, "rotary_interleaved", 0)},
            call.source, call.opset,
        )  # fmt: skip
        q4 = emit_rotary_heads(turn, q, heads, cos, sin, place, f"{name}/qr")
        k4 = emit_rotary_heads(turn, k, groups, cos, sin, place, f"{name}/kr")
    else:
        q4, k4 = split_heads(call, q, heads, f"{name}/q4"), split_heads(call, k, groups, f"{name}/k4")
    v4 = heads_first(call, split_heads(call, v, groups, f"{name}/v4"), f"{name}/v5")
    keys = append(call, past, heads_first(call, k4, f"{name}/k5"), call.out(1) or f"{name}/keys")
    values = append(call, call.maybe(4), v4, call.out(2) or f"{name}/values")
    attrs: dict[str, Attr] = {"scale": _scale(call, q4.type.shape[-1]), "causal": 1}
    if int_attr(call.attrs, "local_window_size", -1) > 0:
        attrs["window"] = int_attr(call.attrs, "local_window_size")
    if float_attr(call.attrs, "softcap", 0.0):
        attrs["softcap"] = float_attr(call.attrs, "softcap", 0.0)
    y = emit_attention(call, q4, keys, values, None, attrs, (HEADS_LAST, "bhsd", "bhsd"), True, name)
    return y, keys, values


def emit_rotary_heads(
    call: Call, x: Value, heads: int, cos: Value, sin: Value, positions: Value, name: str
) -> Value:
    """Rotary on [b, s, h*d] that stays split into heads: [b, s, h, d]."""
    call.attrs["num_heads"] = heads
    flat = emit_rotary(call, x, cos, sin, positions, name, "rotary_embedding_dim")
    return split_heads(call, flat, heads, f"{name}/heads4")


def _rotary(call: Call) -> tuple[Value, ...]:
    """RotaryEmbedding: as ONNX's, with positions before the caches. One position counts up from itself."""
    x, positions, cos, sin = (call.need(i) for i in range(4))
    tokens = x.type.shape[-2]
    name = call.out(0)
    if positions.type.elements == 1 and tokens > 1:
        index = call.builder.constant(f"{name}/index", np.arange(tokens, dtype=np.int64)[None])
        (positions,) = call.emit("Add", [index, positions], {}, [f"{name}/positions"])
    elif len(positions.type.shape) == 1:
        shape = (1, positions.type.elements)
        (positions,) = call.emit("Reshape", [positions], {"shape": shape}, [f"{name}/positions"])
    return (emit_rotary(call, x, cos, sin, positions, name, "rotary_embedding_dim"),)


RULES: dict[str, Rule] = {
    "Attention": _packed_attention,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _group_query,
    "RotaryEmbedding": _rotary,
}
