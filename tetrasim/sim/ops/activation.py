"""Activation functions. Op counts per element follow from the formula beside each op, with common
subexpressions computed once and constants folded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from tetrasim.sim.ir.graph import Node
from tetrasim.sim.ops.arithmetic import ActivationUnit, Arithmetic
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    as_float,
    float_attr,
    have,
    like,
    same,
    str_attr,
    vector_work,
)
from tetrasim.sim.ops.rounding import EXACT
from tetrasim.sim.ops.work import Work

OPS: dict[str, OpDef] = {}

Function = Callable[[Arr, Attrs, Arithmetic], Arr]

# 1 / (1 + exp(-x))
SIGMOID_OPS = {"exp": 1, "add": 1, "div": 1}
# x / (1 + exp(-x))
SILU_OPS = {"exp": 1, "add": 1, "div": 1}
# x (1 + erf(x / sqrt 2)) / 2
GELU_ERF_OPS = {"erf": 1, "mul": 3, "add": 1}
# x/2 (1 + tanh(c x + c a x^3)): x^2, *ca, +c, *x, tanh, +1, *x/2 (two products)
GELU_TANH_OPS = {"tanh": 1, "mul": 5, "add": 2}


def sigmoid(x: Arr, arith: Arithmetic) -> Arr:
    """Logistic function through the machine's exp (no overflow: exp of a non-positive number only)."""
    e = np.asarray(arith.function("exp", -np.abs(x)))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def gelu(x: Arr, tanh: bool, arith: Arithmetic) -> Arr:
    """Gaussian error linear unit, exact (erf) or by tanh (Hendrycks and Gimpel, arXiv 1606.08415)."""
    if tanh:
        inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
        bent = np.asarray(arith.function("tanh", inner))
    else:
        bent = np.asarray(arith.function("erf", x * x.dtype.type(math.sqrt(0.5))))
    return np.asarray(x * x.dtype.type(0.5) * (1 + bent))


def _silu(x: Arr, _attrs: Attrs, arith: Arithmetic) -> Arr:
    return np.asarray(x * sigmoid(x, arith))


def _gelu(x: Arr, attrs: Attrs, arith: Arithmetic) -> Arr:
    return gelu(x, str_attr(attrs, "approximate", "none") == "tanh", arith)


def activate(name: str, fn: Function, x: Arr, attrs: Attrs, arith: Arithmetic) -> Arr:
    """An activation as the machine computes it: by its own unit where it has one for `name`."""
    if isinstance(arith, ActivationUnit):
        own = arith.activation(name, lambda v: np.asarray(fn(v, attrs, EXACT)), x)
        if own is not None:
            return np.asarray(own)
    return np.asarray(fn(x, attrs, arith))


def _define(name: str, fn: Function, counts: Mapping[str, int] | Callable[[Node], Mapping[str, int]]) -> None:
    def reference(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
        x = have(arrays, 0)
        return (like(activate(name, fn, as_float(x), attrs, arith), x),)

    def work(node: Node) -> Work:
        return vector_work(node, counts(node) if callable(counts) else counts)

    OPS[name] = OpDef(same, reference, work)


def _gelu_counts(node: Node) -> Mapping[str, int]:
    return GELU_TANH_OPS if str_attr(node.attrs, "approximate", "none") == "tanh" else GELU_ERF_OPS


def _softplus(x: Arr, _attrs: Attrs, arith: Arithmetic) -> Arr:
    small = 1 + np.asarray(arith.function("exp", -np.abs(x)))
    return np.maximum(x, 0) + np.asarray(arith.function("log", small))


def _elu(x: Arr, attrs: Attrs, arith: Arithmetic) -> Arr:
    alpha = float_attr(attrs, "alpha", 1.0)
    return np.where(x > 0, x, alpha * (np.asarray(arith.function("exp", np.minimum(x, 0))) - 1))


def _celu(x: Arr, attrs: Attrs, arith: Arithmetic) -> Arr:
    alpha = float_attr(attrs, "alpha", 1.0)
    bent = np.asarray(arith.function("exp", np.minimum(x / alpha, 0))) - 1
    return np.asarray(np.maximum(x, 0) + np.minimum(alpha * bent, 0))


def _selu(x: Arr, attrs: Attrs, arith: Arithmetic) -> Arr:
    alpha = float_attr(attrs, "alpha", 1.67326319217681884765625)
    gamma = float_attr(attrs, "gamma", 1.05070102214813232421875)
    return gamma * np.where(x > 0, x, alpha * (np.asarray(arith.function("exp", np.minimum(x, 0))) - 1))


_define("Relu", lambda x, _a, _m: np.maximum(x, 0), {"max": 1})
_define(
    "LeakyRelu",
    lambda x, a, _m: np.where(x < 0, x * float_attr(a, "alpha", 0.01), x),
    {"mul": 1, "select": 1},
)
_define(
    "ThresholdedRelu",
    lambda x, a, _m: np.where(x > float_attr(a, "alpha", 1.0), x, 0),
    {"cmp": 1, "select": 1},
)
_define("Sigmoid", lambda x, _a, m: sigmoid(x, m), SIGMOID_OPS)
_define("Swish", lambda x, a, m: x * sigmoid(float_attr(a, "alpha", 1.0) * x, m), SILU_OPS)
_define("Gelu", _gelu, _gelu_counts)
_define(
    "QuickGelu", lambda x, a, m: x * sigmoid(float_attr(a, "alpha", 1.702) * x, m), {**SILU_OPS, "mul": 1}
)
_define("Softplus", _softplus, {"exp": 1, "log": 1, "add": 1})
_define("Softsign", lambda x, _a, _m: x / (1 + np.abs(x)), {"max": 1, "add": 1, "div": 1})
_define(
    "Mish",
    lambda x, a, m: x * np.asarray(m.function("tanh", _softplus(x, a, m))),
    {"exp": 1, "log": 1, "tanh": 1, "add": 1, "mul": 1},
)
_define(
    "HardSigmoid",
    lambda x, a, _m: np.clip(float_attr(a, "alpha", 0.2) * x + float_attr(a, "beta", 0.5), 0, 1),
    {"mul": 1, "add": 1, "max": 2},
)
_define("HardSwish", lambda x, _a, _m: x * np.clip(x / 6 + 0.5, 0, 1), {"mul": 2, "add": 1, "max": 2})
_define("Elu", _elu, {"exp": 1, "add": 1, "mul": 1, "select": 1})
_define("Celu", _celu, {"exp": 1, "add": 1, "mul": 2, "select": 1})
_define("Selu", _selu, {"exp": 1, "add": 1, "mul": 2, "select": 1})


def _gated(name: str, counts: Callable[[Node], Mapping[str, int]]) -> None:
    """act(gate) * up, Shazeer, arXiv:2002.05202."""

    def reference(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
        gate, up = as_float(have(arrays, 0)), have(arrays, 1)
        op, fn = ("Swish", _silu) if name == "SwiGLU" else ("Gelu", _gelu)
        return (activate(op, fn, gate, attrs, arith) * up,)

    def work(node: Node) -> Work:
        per = dict(counts(node))
        return vector_work(node, {**per, "mul": per.get("mul", 0) + 1})

    OPS[name] = OpDef(same, reference, work)


_gated("SwiGLU", lambda _: SILU_OPS)
_gated("GeGLU", _gelu_counts)
