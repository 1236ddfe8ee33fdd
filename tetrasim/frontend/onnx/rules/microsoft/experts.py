"""ORT's mixtures of experts, MoE and QMoE: a router's top k, one product per choice, a weighted sum.

Source of the semantics: onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.frontend.onnx.rules.microsoft.block_quantised import Blocked
from tetrasim.sim.ir.graph import Attr, Kind, Quant, Role, TensorType, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr, str_attr

_ACTIVATIONS = {"relu": "Relu", "gelu": "Gelu", "silu": "Swish"}


@dataclass(frozen=True)
class _Layers:
    """Weights [experts, out, in] and biases [experts, out] of three layers; the third may be missing."""

    weights: tuple[Value, Value, Value | None]
    biases: tuple[Value | None, Value | None, Value | None]


def _moe(call: Call) -> tuple[Value, ...]:
    at = call.maybe
    return _mixture(call, _Layers((call.need(2), call.need(4), at(6)), (at(3), at(5), at(7))), None)


def _qmoe(call: Call) -> tuple[Value, ...]:
    """Integer weights in columns or blocks; other quantisations are priced by their bytes only."""
    at, weights = call.maybe, [call.need(2), call.need(5), call.maybe(8)]
    x = call.need(0)
    scales, zeros = [at(3), at(6), at(9)], [at(11), at(12), at(13)]
    bits = int_attr(call.attrs, "expert_weight_bits", 4)
    made: list[Value | None] = []
    inner = x.type.shape[-1]
    for i, (weight, scale, zero) in enumerate(zip(weights, scales, zeros, strict=True)):
        if weight is None:
            made.append(None)
            continue
        own = int_attr(call.attrs, f"fc{i + 1}_expert_weight_bits", bits)
        made.append(_unpacked(call, weight, scale, zero, own))
        inner = weight.type.shape[1] if i != 1 else inner
    first, second, third = made
    assert first is not None
    assert second is not None
    return _mixture(call, _Layers((first, second, third), (at(4), at(7), at(10))), at(14))


def _unpacked(call: Call, weight: Value, scale: Value | None, zero: Value | None, bits: int) -> Value:
    experts, n, packed = weight.type.shape
    if weight.type.kind not in (Kind.UINT, Kind.INT):
        return weight  # float8 and float4 experts have their own format
    k, block = packed * 8 // bits, int_attr(call.attrs, "block_size", 0)
    data = None
    known = weight.data is not None and (scale is None or scale.data is not None)
    if (
        known
        and (zero is None or zero.data is not None)
        and not int_attr(call.attrs, "weights_prepacked", 0) > 0
    ):
        assert weight.data is not None
        scales = None if scale is None else scale.data
        points = None if zero is None else zero.data
        data = Blocked(weight.data, scales, points, (experts, n, k), bits, block or k)
    type = TensorType((experts, n, k), Kind.UINT, bits, Quant())
    return Value(call.builder.fresh(f"{weight.name}/experts"), type, Role.WEIGHT, data)


def _mixture(call: Call, layers: _Layers, mixing: Value | None) -> tuple[Value, ...]:
    x, router, name = call.need(0), call.need(1), call.out(0)
    if int_attr(call.attrs, "use_sparse_mixer", 0):
        raise call.refuse("the sparse mixer is not supported")

    def one(op: str, inputs: list[Value | None], label: str, attrs: dict[str, Attr] | None = None) -> Value:
        return call.emit(op, inputs, attrs or {}, [f"{name}/{label}"])[0]

    tokens, width = router.type.shape[0], x.type.shape[-1]
    rows = one("Reshape", [x], "rows", {"shape": (tokens, 1, width)})
    k = int_attr(call.attrs, "k", 1)
    probs = one("Softmax", [router], "probabilities", {"axis": -1})
    top: dict[str, Attr] = {"k": k, "axis": -1}
    shares, chosen = call.emit("TopK", [probs], top, [f"{name}/shares", f"{name}/chosen"])
    if mixing is not None:
        shares = one("GatherElements", [mixing, chosen], "mixing", {"axis": -1})
    if int_attr(call.attrs, "normalize_routing_weights", 0):
        total = one("ReduceSum", [shares], "total", {"axes": (-1,), "keepdims": 1})
        shares = one("Div", [shares, total], "normalised")

    def layer(h: Value, i: int) -> Value:
        weight, bias = layers.weights[i], layers.biases[i]
        out = one("IndexedMatMul", [h, weight, chosen], f"fc{i + 1}")
        if bias is None:
            return out
        return one("Add", [out, one("Gather", [bias, chosen], f"bias{i + 1}", {"axis": 0})], f"biased{i + 1}")

    hidden = _activated(call, layer(rows, 0), layer(rows, 2) if layers.weights[2] is not None else None)
    out = layer(hidden, 1)
    column = one("Reshape", [shares], "column", {"shape": (tokens, k, 1)})
    summed = one("ReduceSum", [one("Mul", [out, column], "weighted")], "sum", {"axes": (1,), "keepdims": 0})
    return call.emit("Reshape", [summed], {"shape": x.type.shape})


def _activated(call: Call, h: Value, other: Value | None) -> Value:
    """The activation of the first layer, times the partner where there is one."""
    name, kind = call.out(0), str_attr(call.attrs, "activation_type", "relu").lower()

    def one(op: str, inputs: list[Value | None], label: str, attrs: dict[str, Attr] | None = None) -> Value:
        return call.emit(op, inputs, attrs or {}, [f"{name}/{label}"])[0]

    if kind != "swiglu":
        if kind not in (*_ACTIVATIONS, "identity"):
            raise call.refuse(f"activation '{kind}' is not supported")
        out = h if kind == "identity" else one(_ACTIVATIONS[kind], [h], "activated")
        return out if other is None else one("Mul", [out, other], "gated")
    fusion, (tokens, k, width) = int_attr(call.attrs, "swiglu_fusion", 0), h.type.shape
    if fusion == 1:
        pairs = one("Reshape", [h], "pairs", {"shape": (tokens, k, width // 2, 2)})
        parts = call.emit("Split", [pairs], {"axis": -1, "split": (1, 1)}, [f"{name}/g2", f"{name}/l2"])
        gate, linear = (one("Reshape", [p], "half", {"shape": (tokens, k, width // 2)}) for p in parts)
    elif fusion == 2:
        halves: dict[str, Attr] = {"axis": -1, "split": (width // 2,) * 2}
        gate, linear = call.emit("Split", [h], halves, [f"{name}/g", f"{name}/l"])
    elif other is not None:
        gate, linear = h, other
    else:
        raise call.refuse("SwiGLU needs a fused first layer or a third one")
    if "swiglu_limit" in call.attrs:
        limit = float_attr(call.attrs, "swiglu_limit", 0.0)
        gate = one("Clip", [gate], "gate_bound", {"max": limit})
        linear = one("Clip", [linear], "linear_bound", {"min": -limit, "max": limit})
    beta = float_attr(call.attrs, "activation_beta", 0.0)
    if beta:
        shift = call.builder.constant(f"{name}/beta", np.array(beta, dtype=np.float32))
        linear = one("Add", [linear, shift], "shifted")
    bent = one("Swish", [gate], "bent", {"alpha": float_attr(call.attrs, "activation_alpha", 1.0)})
    return one("Mul", [bent, linear], "gated")


RULES: dict[str, Rule] = {"MoE": _moe, "QMoE": _qmoe}
