"""Attention whose scores are an output too: nothing can be fused, so every step is spelled out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tetrasim.frontend.onnx.call import Call
from tetrasim.sim.ir.graph import Attr, Kind, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr

_SCALED, _CAPPED, _MASKED, _WEIGHTS = range(4)


def spelled_out(
    call: Call,
    operands: tuple[Value, Value, Value],
    layouts: Sequence[str],
    mask: Value | None,
    attrs: dict[str, Attr],
    flat: bool,
) -> tuple[Value, Value]:
    """The result and the scores [b, h, q, k] of `qk_matmul_output_mode`: scaled products, with the soft cap,
    with the mask, or the weights."""
    name, wanted = call.out(0), int_attr(call.attrs, "qk_matmul_output_mode", 0)
    q, k, v = (_bhsd(call, x, at, f"{name}/{n}") for x, at, n in zip(operands, layouts, "qkv", strict=True))
    (b, h, s, d), groups, keys = q.type.shape, k.type.shape[1], k.type.shape[2]

    def one(op: str, inputs: list[Value], label: str, more: dict[str, Attr] | None = None) -> Value:
        return call.emit(op, inputs, more or {}, [f"{name}/{label}"])[0]

    per = h // groups
    grouped = one("Reshape", [q], "q5", {"shape": (b, groups, per, s, d)})
    keys5 = one("Reshape", [k], "k5", {"shape": (b, groups, 1, keys, d)})
    values5 = one("Reshape", [v], "v5", {"shape": (b, groups, 1, keys, v.type.shape[3])})
    stages: dict[int, Value] = {}
    turned = one("Transpose", [keys5], "kT", {"perm": (0, 1, 2, 4, 3)})
    scale = _number(call, float_attr(attrs, "scale", 1.0))
    scores = one("MatMul", [one("Mul", [grouped, scale], "scaled"), turned], "products")
    stages[_SCALED] = scores = one("Reshape", [scores], "scores", {"shape": (b, h, s, keys)})
    cap = float_attr(attrs, "softcap", 0.0)
    if cap:
        small = one("Div", [scores, _number(call, cap)], "uncapped")
        scores = one("Mul", [one("Tanh", [small], "bent"), _number(call, cap)], "capped")
    stages[_CAPPED] = scores
    scores = _hide(call, scores, mask, bool(attrs.get("causal")))
    stages[_MASKED] = scores
    stages[_WEIGHTS] = weights = one("Softmax", [scores], "weights", {"axis": -1})
    grouped = one("Reshape", [weights], "weights5", {"shape": (b, groups, per, s, keys)})
    out = one("MatMul", [grouped, values5], "out5")
    if flat:
        heads = one("Reshape", [out], "out4", {"shape": (b, h, s, v.type.shape[3])})
        turned_back = one("Transpose", [heads], "out3", {"perm": (0, 2, 1, 3)})
        (y,) = call.emit("Reshape", [turned_back], {"shape": (b, s, h * v.type.shape[3])}, [name])
    else:
        (y,) = call.emit("Reshape", [out], {"shape": (b, h, s, v.type.shape[3])}, [name])
    return y, stages[wanted]


def _bhsd(call: Call, x: Value, layout: str, name: str) -> Value:
    if layout == "bhsd":
        return x
    return call.emit("Transpose", [x], {"perm": (0, 2, 1, 3)}, [f"{name}/first"])[0]


def _number(call: Call, value: float) -> Value:
    return call.builder.constant(f"{call.out(0)}/number", np.array(value, dtype=np.float32))


def _hide(call: Call, scores: Value, mask: Value | None, causal: bool) -> Value:
    """Scores with the mask and, when asked for, without the keys after each query."""
    name = call.out(0)
    hidden = _number(call, -np.inf)
    if causal:
        q_len, keys = scores.type.shape[-2:]
        seen = call.builder.constant(f"{name}/causal", np.tril(np.ones((q_len, keys), bool), keys - q_len))
        (scores,) = call.emit("Where", [seen, scores, hidden], {}, [f"{name}/lower"])
    if mask is None:
        return scores
    if mask.type.kind is Kind.BOOL:
        return call.emit("Where", [mask, scores, hidden], {}, [f"{name}/masked"])[0]
    return call.emit("Add", [scores, mask], {}, [f"{name}/masked"])[0]
