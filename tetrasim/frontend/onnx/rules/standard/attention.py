"""Attention and rotary embedding as ONNX defines them (opset 23, 24), in the form of `sim/ops/attention.py`.

Three-axis inputs [batch, tokens, heads * width] are read as they lie (layout "bshd"); past keys and values
are concatenated, which becomes a `KVAppend` where they are state. ONNX aligns a causal mask to the upper
left of the new keys; that is ours when there are as many new keys as queries, else it becomes a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.frontend.onnx.heads import HEADS_LAST, append, heads_first, split_heads
from tetrasim.frontend.onnx.rules.standard.attention_scores import spelled_out
from tetrasim.sim.ir.graph import Attr, Kind, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr


def emit_attention(
    call: Call,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None,
    attrs: dict[str, Attr],
    layouts: Sequence[str],
    flat: bool,
    name: str,
) -> Value:
    """Our Attention; `flat`: the result is [b, s, h*d]."""
    for axis, layout in zip("qkv", layouts, strict=True):
        if layout != "bhsd":
            attrs = {**attrs, f"{axis}_layout": layout}
    if not flat:
        (out,) = call.emit("Attention", [q, k, v, mask], attrs, [name])
        return out
    (wide,) = call.emit("Attention", [q, k, v, mask], {**attrs, "o_layout": HEADS_LAST}, [f"{name}/heads"])
    b, s, h, d = wide.type.shape
    (out,) = call.emit("Reshape", [wide], {"shape": (b, s, h * d)}, [name])
    return out


def attention(call: Call) -> tuple[Value | None, ...]:
    """ONNX `Attention` (opset 23 and 24).

    Raises:
        UnsupportedOpError: query, key or value is missing, or heads do not divide.
    """
    outputs = list(call.proto.output) + [""] * 4
    q, k, v, mask, past_k, past_v, lengths = (
        call.inputs[i] if i < len(call.inputs) else None for i in range(7)
    )
    if q is None or k is None or v is None:
        raise call.refuse("it needs query, key and value")
    flat = len(q.type.shape) == 3
    layouts = ["bhsd"] * 3
    if flat:
        q = split_heads(call, q, int_attr(call.attrs, "q_num_heads"), f"{outputs[0]}/q")
        groups = int_attr(call.attrs, "kv_num_heads")
        k, v = (
            split_heads(call, k, groups, f"{outputs[0]}/k"),
            split_heads(call, v, groups, f"{outputs[0]}/v"),
        )
        layouts = [HEADS_LAST] * 3
        if past_k is not None or outputs[1] or outputs[2]:
            k, v = heads_first(call, k, f"{outputs[0]}/k1"), heads_first(call, v, f"{outputs[0]}/v1")
            layouts[1:] = ["bhsd", "bhsd"]
    new_keys = k.type.shape[layouts[1].index("s")]
    q_len = q.type.shape[layouts[0].index("s")]
    past = past_k.type.shape[2] if past_k is not None else 0
    k = append(call, past_k, k, outputs[1] or f"{outputs[0]}/keys")
    v = append(call, past_v, v, outputs[2] or f"{outputs[0]}/values")
    attrs: dict[str, Attr] = {}
    width = q.type.shape[layouts[0].index("d")]
    attrs["scale"] = float_attr(call.attrs, "scale", 0.0) or 1 / float(np.sqrt(width))
    cap = float_attr(call.attrs, "softcap", 0.0)
    if cap:
        attrs["softcap"] = cap
    if mask is not None:
        mask = _padded(call, mask, past + new_keys, outputs[0])
    if int_attr(call.attrs, "is_causal", 0):
        if new_keys == q_len:
            attrs["causal"] = 1
        else:
            mask = _upper_left(call, mask, q_len, past + new_keys, past, outputs[0])
    if lengths is not None:
        mask = _within_lengths(call, mask, lengths, past + new_keys, outputs[0])
    if outputs[3]:
        y, scores = spelled_out(call, (q, k, v), layouts, mask, attrs, flat)
        return y, k, v, scores
    y = emit_attention(call, q, k, v, mask, attrs, layouts, flat, outputs[0])
    return (y, k, v)[: max(len(call.proto.output), 1)]


def _padded(call: Call, mask: Value, keys: int, name: str) -> Value:
    """A mask over fewer keys hides the rest (opset 24)."""
    missing = keys - mask.type.shape[-1]
    if missing <= 0 or mask.type.shape[-1] == 1:
        return mask
    rank = len(mask.type.shape)
    pads = (*(0,) * (2 * rank - 1), missing)
    if mask.type.kind is Kind.BOOL:
        return call.emit("Pad", [mask], {"pads": pads}, [f"{name}/mask"])[0]
    fill = call.builder.constant(f"{name}/hidden", np.array(-np.inf, dtype=np.float32))
    (out,) = call.emit("Pad", [mask, None, fill], {"pads": pads}, [f"{name}/mask"])
    return out


def _within_lengths(call: Call, mask: Value | None, lengths: Value, keys: int, name: str) -> Value:
    """`mask` and the keys that are no padding: the first `lengths` [batch] of every sequence."""
    places = call.builder.constant(f"{name}/places", np.arange(keys, dtype=np.int64))
    shape = (lengths.type.elements, 1, 1, 1)
    (ends,) = call.emit("Reshape", [lengths], {"shape": shape}, [f"{name}/lengths"])
    (filled,) = call.emit("Less", [places, ends], {}, [f"{name}/filled"])
    if mask is None:
        return filled
    if mask.type.kind is Kind.BOOL:
        return call.emit("And", [filled, mask], {}, [f"{name}/visible"])[0]
    zero, hidden = (call.builder.constant(f"{name}/hidden", np.array(v, np.float32)) for v in (0.0, -np.inf))
    (bias,) = call.emit("Where", [filled, zero, hidden], {}, [f"{name}/padding"])
    return call.emit("Add", [mask, bias], {}, [f"{name}/biased"])[0]


def _upper_left(call: Call, mask: Value | None, q_len: int, keys: int, past: int, name: str) -> Value:
    """The causal mask of ONNX as a tensor, combined with `mask`."""
    visible = np.tril(np.ones((q_len, keys), dtype=bool), past)
    if mask is None or mask.type.kind is Kind.BOOL:
        causal = call.builder.constant(f"{name}/causal", visible)
        if mask is None:
            return causal
        (out,) = call.emit("And", [causal, mask], {}, [f"{name}/mask2"])
        return out
    hidden = np.where(visible, 0, -np.inf).astype(np.float32)
    causal = call.builder.constant(f"{name}/causal", hidden)
    (out,) = call.emit("Add", [mask, causal], {}, [f"{name}/mask2"])
    return out


def rotary(call: Call) -> tuple[Value, ...]:
    """ONNX `RotaryEmbedding` (opset 23): cos and sin caches of half the width, optional position ids."""
    x, cos, sin = call.need(0), call.need(1), call.need(2)
    positions = call.inputs[3] if len(call.inputs) > 3 else None
    return (emit_rotary(call, x, cos, sin, positions, call.proto.output[0], "rotary_embedding_dim"),)


def emit_rotary(
    call: Call, x: Value, cos: Value, sin: Value, positions: Value | None, name: str, dim_key: str
) -> Value:
    """Our RotaryEmbedding on [b, h, s, d] or [b, s, h*d]."""
    if positions is not None:
        cos, sin = (
            call.emit("Gather", [c, positions], {"axis": 0}, [f"{name}/{n}"])[0]
            for c, n in ((cos, "cos"), (sin, "sin"))
        )
    shape = x.type.shape
    flat = len(shape) == 3
    if flat:
        x = split_heads(
            call, x, int_attr(call.attrs, "num_heads", 0) or _heads(call, shape, cos), f"{name}/x"
        )
    b = cos.type.shape[0] if len(cos.type.shape) == 3 else 1
    s, half = cos.type.shape[-2:]
    table = (b, s, 1, half) if flat else (b, 1, s, half)
    cos, sin = (
        call.emit("Reshape", [c], {"shape": table}, [f"{name}/{n}"])[0]
        for c, n in ((cos, "cos4"), (sin, "sin4"))
    )
    attrs: dict[str, Attr] = {}
    if int_attr(call.attrs, "interleaved", 0):
        attrs["interleaved"] = 1
    if int_attr(call.attrs, dim_key, 0):
        attrs["rotary_dim"] = int_attr(call.attrs, dim_key)
    if not flat:
        return call.emit("RotaryEmbedding", [x, cos, sin], attrs, [name])[0]
    (wide,) = call.emit("RotaryEmbedding", [x, cos, sin], attrs, [f"{name}/heads"])
    return call.emit("Reshape", [wide], {"shape": shape}, [name])[0]


def _heads(call: Call, shape: tuple[int, ...], cos: Value) -> int:
    width = 2 * cos.type.shape[-1]
    if shape[-1] % width:
        raise call.refuse("the number of heads is unknown", "set num_heads")
    return shape[-1] // width


RULES: dict[str, Rule] = {"Attention": attention, "RotaryEmbedding": rotary}
