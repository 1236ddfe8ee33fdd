"""ORT's `com.microsoft` ops, as its optimiser and its LLM builder write them, in terms of standard ones.

Source of the semantics: onnxruntime's ContribOperators.md. What has no rule here is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.ir.canonical import Call, Rule
from tetrasim.sim.ir.contrib_quantised import QUANTISED_CONTRIB
from tetrasim.sim.ir.graph import Attr, Data, Kind, Quant, Role, TensorType, Value
from tetrasim.sim.ir.rules_attention import (
    HEADS_LAST,
    append,
    emit_attention,
    emit_rotary,
    heads_first,
    split_heads,
)
from tetrasim.sim.ops.opdef import float_attr, int_attr, ints_attr, str_attr


def _at(call: Call, index: int) -> Value | None:
    return call.inputs[index] if index < len(call.inputs) else None


def _out(call: Call, index: int) -> str:
    return call.proto.output[index] if index < len(call.proto.output) else ""


def _gelu(call: Call) -> tuple[Value, ...]:
    """Gelu, FastGelu (tanh) and BiasGelu."""
    x, bias = call.need(0), _at(call, 1)
    if bias is not None:
        (x,) = call.emit("Add", [x, bias], {}, [f"{_out(call, 0)}/biased"])
    kind = "tanh" if call.proto.op_type == "FastGelu" else "none"
    return call.emit("Gelu", [x], {"approximate": kind})


def _quick_gelu(call: Call) -> tuple[Value, ...]:
    return call.emit("QuickGelu", [call.need(0)], {"alpha": float_attr(call.attrs, "alpha", 1.702)})


def _fused_matmul(call: Call) -> tuple[Value, ...]:
    if int_attr(call.attrs, "transBatchA", 0) or int_attr(call.attrs, "transBatchB", 0):
        raise call.refuse("transBatchA and transBatchB are not supported")
    attrs = {k: v for k, v in call.attrs.items() if k in ("transA", "transB") and v}
    if float_attr(call.attrs, "alpha", 1.0) != 1.0:
        attrs["alpha"] = float_attr(call.attrs, "alpha", 1.0)
    return call.emit("MatMul", call.inputs, attrs)


def _activated(call: Call) -> tuple[Value, ...]:
    """FusedGemm, FusedConv: the op, then its activation."""
    op = call.proto.op_type.removeprefix("Fused")
    kind = str_attr(call.attrs, "activation", "")
    attrs = {k: v for k, v in call.attrs.items() if not k.startswith("activation")}
    if op == "Conv" and len(call.inputs) > 3 and call.inputs[3] is not None:
        raise call.refuse("the fused sum is not supported")
    if not kind:
        return call.emit(op, call.inputs[:3], attrs)
    (inner,) = call.emit(op, call.inputs[:3], attrs, [f"{_out(call, 0)}/linear"])
    return call.emit(kind, [inner])


def _skip_norm(call: Call) -> tuple[Value | None, ...]:
    """SkipLayerNormalization and SkipSimplifiedLayerNormalization: (x + skip [+ bias]) normalised."""
    simplified = "Simplified" in call.proto.op_type
    x, skip = call.need(0), call.need(1)
    gamma = _at(call, 2)
    beta = None if simplified else _at(call, 3)
    bias = _at(call, 3 if simplified else 4)
    name = _out(call, 0)
    if bias is not None:
        (x,) = call.emit("Add", [x, bias], {}, [f"{name}/biased"])
    (total,) = call.emit("Add", [x, skip], {}, [_out(call, 3) or f"{name}/sum"])
    attrs: dict[str, Attr] = {"axis": -1, "epsilon": float_attr(call.attrs, "epsilon", 1e-12)}
    op = "RMSNormalization" if simplified else "LayerNormalization"
    (y,) = call.emit(op, [total, gamma, beta], attrs, [name])
    return y, None, None, total


def _simplified_norm(call: Call) -> tuple[Value, ...]:
    attrs: dict[str, Attr] = {
        "axis": int_attr(call.attrs, "axis", -1),
        "epsilon": float_attr(call.attrs, "epsilon", 1e-5),
    }
    return call.emit("RMSNormalization", call.inputs[:2], attrs, [_out(call, 0)])


def _embed_norm(call: Call) -> tuple[Value | None, ...]:
    """EmbedLayerNormalization: word + position + segment embeddings, normalised."""
    ids, segments, words, places, kinds = (_at(call, i) for i in range(5))
    name = _out(call, 0)
    if ids is None or words is None or places is None or _at(call, 7) is not None:
        raise call.refuse("its mask output is not supported")
    (total,) = call.emit("Gather", [words, ids], {"axis": 0}, [f"{name}/words"])
    positions = _at(call, 8)
    if positions is None:
        index = np.arange(ids.type.shape[1], dtype=np.int64)[None]
        positions = call.builder.constant(f"{name}/index", index)
    (where,) = call.emit("Gather", [places, positions], {"axis": 0}, [f"{name}/places"])
    (total,) = call.emit("Add", [total, where], {}, [f"{name}/placed"])
    if segments is not None and kinds is not None:
        (segment,) = call.emit("Gather", [kinds, segments], {"axis": 0}, [f"{name}/segments"])
        (total,) = call.emit("Add", [total, segment], {}, [_out(call, 2) or f"{name}/total"])
    attrs: dict[str, Attr] = {"axis": -1, "epsilon": float_attr(call.attrs, "epsilon", 1e-12)}
    (y,) = call.emit("LayerNormalization", [total, _at(call, 5), _at(call, 6)], attrs, [name])
    return y, None, total


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
    x, weight, bias = call.need(0), call.need(1), _at(call, 2)
    if _at(call, 4) is not None or _out(call, 1):
        raise call.refuse("its packed past is not supported", "export separate past_key and past_value")
    heads, name = int_attr(call.attrs, "num_heads"), _out(call, 0)
    sizes = ints_attr(call.attrs, "qkv_hidden_sizes", (weight.type.shape[1] // 3,) * 3)
    op = "Gemm" if bias is not None else "MatMul"
    (qkv,) = call.emit(op, [x, weight, bias] if bias is not None else [x, weight], {}, [f"{name}/qkv"])
    parts = call.emit("Split", [qkv], {"axis": -1, "split": sizes}, [f"{name}/{n}" for n in "qkv"])
    q, k, v = (split_heads(call, p, heads, f"{name}/{n}4") for p, n in zip(parts, "qkv", strict=True))
    attrs: dict[str, Attr] = {"scale": _scale(call, q.type.shape[-1])}
    if int_attr(call.attrs, "unidirectional", 0):
        attrs["causal"] = 1
    mask = _joined(call, _visible(call, _at(call, 3), k.type.shape[1], name), _at(call, 5), name)
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
    q, k, v = call.need(0), _at(call, 1), _at(call, 2)
    heads, name = int_attr(call.attrs, "num_heads"), _out(call, 0)
    if k is None or v is None or len(q.type.shape) != 3:
        raise call.refuse("packed q, k, v are not supported")
    bias = _at(call, 3)
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
        if _at(call, 6) is None and not _out(call, 1):
            layouts = [HEADS_LAST] * 3
        else:
            k, v = heads_first(call, k, f"{name}/k5"), heads_first(call, v, f"{name}/v5")
    k = append(call, _at(call, 6), k, _out(call, 1) or f"{name}/keys")
    v = append(call, _at(call, 7), v, _out(call, 2) or f"{name}/values")
    attrs: dict[str, Attr] = {"scale": _scale(call, q.type.shape[-1])}
    if int_attr(call.attrs, "unidirectional", 0):
        attrs["causal"] = 1
    keys = k.type.shape[layouts[1].index("s")]
    mask = _joined(call, _visible(call, _at(call, 4), keys, name), _at(call, 5), name)
    return emit_attention(call, q, k, v, mask, attrs, layouts, True, name), k, v


def _group_query(call: Call) -> tuple[Value | None, ...]:
    """GroupQueryAttention of ORT's LLM builder: causal, cached, rotary inside. The cache is taken to grow by
    the new tokens, all sequences of the batch being equally long (`seqlens_k` is not read)."""
    q, k, v = call.need(0), _at(call, 1), _at(call, 2)
    heads, groups = int_attr(call.attrs, "num_heads"), int_attr(call.attrs, "kv_num_heads")
    name = _out(call, 0)
    if k is None or v is None:
        width = q.type.shape[-1] // (heads + 2 * groups)
        sizes = (heads * width, groups * width, groups * width)
        q, k, v = call.emit("Split", [q], {"axis": -1, "split": sizes}, [f"{name}/{n}" for n in "qkv"])
    tokens = q.type.shape[1]
    past = _at(call, 3)
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
    keys = append(call, past, heads_first(call, k4, f"{name}/k5"), _out(call, 1) or f"{name}/keys")
    values = append(call, _at(call, 4), v4, _out(call, 2) or f"{name}/values")
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
    name = _out(call, 0)
    if positions.type.elements == 1 and tokens > 1:
        index = call.builder.constant(f"{name}/index", np.arange(tokens, dtype=np.int64)[None])
        (positions,) = call.emit("Add", [index, positions], {}, [f"{name}/positions"])
    elif len(positions.type.shape) == 1:
        shape = (1, positions.type.elements)
        (positions,) = call.emit("Reshape", [positions], {"shape": shape}, [f"{name}/positions"])
    return (emit_rotary(call, x, cos, sin, positions, name, "rotary_embedding_dim"),)


@dataclass(frozen=True, slots=True, eq=False)
class _Blocked:
    """Block-quantised weights of MatMulNBits, dequantised when asked for."""

    packed: Data
    scales: Data
    zeros: Data | None
    shape: tuple[int, int]
    bits: int
    block: int

    def load(self) -> NDArray[Any]:
        """[n, k] in float32."""
        n, k = self.shape
        raw = np.asarray(self.packed.load()).astype(np.uint8).reshape(n, -1)
        per_byte = 8 // self.bits
        fields = [(raw >> (self.bits * i)) & (2**self.bits - 1) for i in range(per_byte)]
        values = np.stack(fields, axis=-1).reshape(n, -1)[:, : -(-k // self.block) * self.block]
        values = values.reshape(n, -1, self.block).astype(np.float32)
        scales = np.asarray(self.scales.load(), dtype=np.float32).reshape(n, -1, 1)
        zero = np.full(scales.shape, 2 ** (self.bits - 1), dtype=np.float32)
        if self.zeros is not None:
            flat = np.asarray(self.zeros.load())
            if flat.dtype == np.uint8:
                flat = flat.reshape(n, -1)
                parts = [(flat >> (self.bits * i)) & (2**self.bits - 1) for i in range(per_byte)]
                flat = np.stack(parts, axis=-1).reshape(n, -1)[:, : scales.shape[1]]
            zero = flat.astype(np.float32).reshape(scales.shape)
        return np.asarray(((values - zero) * scales).reshape(n, -1)[:, :k], dtype=np.float32)


def _matmul_nbits(call: Call) -> tuple[Value, ...]:
    """MatMulNBits: x times a weight of 2, 4 or 8 bits per element, quantised in blocks along k."""
    x, packed, scales = call.need(0), call.need(1), call.need(2)
    zeros = _at(call, 3)
    n, k = int_attr(call.attrs, "N"), int_attr(call.attrs, "K")
    bits, block = int_attr(call.attrs, "bits", 4), int_attr(call.attrs, "block_size")
    if bits not in (2, 4, 8) or _at(call, 4) is not None:
        raise call.refuse(f"{bits} bits, or a group index")
    data: Data | None = None
    if packed.data is not None and scales.data is not None and (zeros is None or zeros.data is not None):
        data = _Blocked(
            packed.data, scales.data, zeros.data if zeros is not None else None, (n, k), bits, block
        )
    # the scales are not part of the type: blocks of 16 or more elements make them under 2 bits per element
    type = TensorType((n, k), Kind.UINT, bits, Quant())
    weight = Value(call.builder.fresh(f"{packed.name}/blocks"), type, Role.WEIGHT, data)
    bias = _at(call, 5)
    inputs = [x, weight] if bias is None else [x, weight, bias]
    return call.emit("MatMul" if bias is None else "Gemm", inputs, {"transB": 1})


CONTRIB: dict[str, Rule] = {
    "Gelu": _gelu,
    "FastGelu": _gelu,
    "BiasGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "FusedMatMul": _fused_matmul,
    "FusedGemm": _activated,
    "FusedConv": _activated,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "SimplifiedLayerNormalization": _simplified_norm,
    "EmbedLayerNormalization": _embed_norm,
    "Attention": _packed_attention,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _group_query,
    "RotaryEmbedding": _rotary,
    "MatMulNBits": _matmul_nbits,
    **QUANTISED_CONTRIB,
}
