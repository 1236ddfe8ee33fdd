"""ORT's `com.microsoft` ops that its optimiser fuses out of plain ones, in terms of standard ones.

Source of the semantics: onnxruntime's ContribOperators.md. What has no rule here is refused by name.
"""

from __future__ import annotations

import numpy as np

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Attr, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr, str_attr


def _gelu(call: Call) -> tuple[Value, ...]:
    """Gelu, FastGelu (tanh) and BiasGelu."""
    x, bias = call.need(0), call.maybe(1)
    if bias is not None:
        (x,) = call.emit("Add", [x, bias], {}, [f"{call.out(0)}/biased"])
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
    """FusedGemm and FusedConv: the op, for a convolution the sum with a fourth input, then the activation."""
    op = call.proto.op_type.removeprefix("Fused")
    attrs = {k: v for k, v in call.attrs.items() if not k.startswith("activation")}
    addend = call.maybe(3) if op == "Conv" else None
    kind = str_attr(call.attrs, "activation", "")
    if not kind and addend is None:
        return call.emit(op, call.inputs[:3], attrs)
    (inner,) = call.emit(op, call.inputs[:3], attrs, [f"{call.out(0)}/linear"])
    if addend is not None:
        (inner,) = call.emit("Add", [inner, addend], {}, [f"{call.out(0)}/sum"] if kind else ())
    return _activate(call, inner, kind) if kind else (inner,)


_FUSED_PARAMETERS = {
    "LeakyRelu": ("alpha",),
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
    "Elu": ("alpha",),
}


def _activate(call: Call, x: Value, kind: str) -> tuple[Value, ...]:
    """A fused activation; its parameters are a list, or attributes named after it."""
    names = _FUSED_PARAMETERS.get(kind, ())
    given = call.attrs.get("activation_params", ())
    values = given if isinstance(given, tuple) else (given,)
    attrs: dict[str, Attr] = {n: float(str(v)) for n, v in zip(names, values, strict=False)}
    for name in names:
        if f"activation_{name}" in call.attrs:
            attrs[name] = float_attr(call.attrs, f"activation_{name}", 0.0)
    return call.emit(kind, [x], attrs)


def _gemm_fast_gelu(call: Call) -> tuple[Value, ...]:
    """A product with a bias, then Gelu by tanh."""
    x, w, bias = call.need(0), call.need(1), call.maybe(2)
    inputs = [x, w] if bias is None else [x, w, bias]
    (inner,) = call.emit("MatMul" if bias is None else "Gemm", inputs, {}, [f"{call.out(0)}/linear"])
    return call.emit("Gelu", [inner], {"approximate": "tanh"})


def _fused_matmul_activation(call: Call) -> tuple[Value, ...]:
    attrs = {k: v for k, v in call.attrs.items() if k in ("transA", "transB", "alpha") and v}
    (inner,) = call.emit("MatMul", call.inputs, attrs, [f"{call.out(0)}/linear"])
    return _activate(call, inner, str_attr(call.attrs, "activation"))


def _gated_rms(call: Call) -> tuple[Value, ...]:
    """RMS norm of every group of len(scale) columns, times the activated gate."""
    x, scale, gate = (call.need(i) for i in range(3))
    name, shape = call.out(0), x.type.shape
    width = scale.type.shape[0]
    (rows,) = call.emit(
        "Reshape", [x], {"shape": (*shape[:-1], shape[-1] // width, width)}, [f"{name}/heads"]
    )
    attrs: dict[str, Attr] = {"axis": -1, "epsilon": float_attr(call.attrs, "epsilon", 1e-6)}
    (normed,) = call.emit("RMSNormalization", [rows, scale], attrs, [f"{name}/normed"])
    (flat,) = call.emit("Reshape", [normed], {"shape": shape}, [f"{name}/flat"])
    kind = {"silu": "Swish", "swish": "Swish", "sigmoid": "Sigmoid"}[
        str_attr(call.attrs, "activation", "silu")
    ]
    (open_,) = call.emit(kind, [gate], {}, [f"{name}/gate"])
    return call.emit("Mul", [flat, open_])


def _gated_add(call: Call) -> tuple[Value, ...]:
    x, y, gate = (call.need(i) for i in range(3))
    return call.emit("Add", [x, call.emit("Mul", [y, gate], {}, [f"{call.out(0)}/gated"])[0]])


def _skip_norm(call: Call) -> tuple[Value | None, ...]:
    """SkipLayerNormalization and SkipSimplifiedLayerNormalization: (x + skip [+ bias]) normalised."""
    simplified = "Simplified" in call.proto.op_type
    x, skip = call.need(0), call.need(1)
    gamma = call.maybe(2)
    beta = None if simplified else call.maybe(3)
    bias = call.maybe(3 if simplified else 4)
    name = call.out(0)
    if bias is not None:
        (x,) = call.emit("Add", [x, bias], {}, [f"{name}/biased"])
    (total,) = call.emit("Add", [x, skip], {}, [call.out(3) or f"{name}/sum"])
    attrs: dict[str, Attr] = {"axis": -1, "epsilon": float_attr(call.attrs, "epsilon", 1e-12)}
    op = "RMSNormalization" if simplified else "LayerNormalization"
    (y,) = call.emit(op, [total, gamma, beta], attrs, [name])
    return y, None, None, total


def _simplified_norm(call: Call) -> tuple[Value, ...]:
    attrs: dict[str, Attr] = {
        "axis": int_attr(call.attrs, "axis", -1),
        "epsilon": float_attr(call.attrs, "epsilon", 1e-5),
    }
    return call.emit("RMSNormalization", call.inputs[:2], attrs, [call.out(0)])


def _embed_norm(call: Call) -> tuple[Value | None, ...]:
    """EmbedLayerNormalization: word + position + segment embeddings, normalised."""
    ids, segments, words, places, kinds = (call.maybe(i) for i in range(5))
    name = call.out(0)
    if ids is None or words is None or places is None or call.maybe(7) is not None:
        raise call.refuse("its mask output is not supported")
    (total,) = call.emit("Gather", [words, ids], {"axis": 0}, [f"{name}/words"])
    positions = call.maybe(8)
    if positions is None:
        index = np.arange(ids.type.shape[1], dtype=np.int64)[None]
        positions = call.builder.constant(f"{name}/index", index)
    (where,) = call.emit("Gather", [places, positions], {"axis": 0}, [f"{name}/places"])
    (total,) = call.emit("Add", [total, where], {}, [f"{name}/placed"])
    if segments is not None and kinds is not None:
        (segment,) = call.emit("Gather", [kinds, segments], {"axis": 0}, [f"{name}/segments"])
        (total,) = call.emit("Add", [total, segment], {}, [call.out(2) or f"{name}/total"])
    attrs: dict[str, Attr] = {"axis": -1, "epsilon": float_attr(call.attrs, "epsilon", 1e-12)}
    (y,) = call.emit("LayerNormalization", [total, call.maybe(5), call.maybe(6)], attrs, [name])
    return y, None, total


RULES: dict[str, Rule] = {
    "Gelu": _gelu,
    "FastGelu": _gelu,
    "BiasGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "FusedMatMulActivation": _fused_matmul_activation,
    "GemmFastGelu": _gemm_fast_gelu,
    "GatedRMSNorm": _gated_rms,
    "GatedAdd": _gated_add,
    "FusedGemm": _activated,
    "FusedConv": _activated,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "SimplifiedLayerNormalization": _simplified_norm,
    "EmbedLayerNormalization": _embed_norm,
}
