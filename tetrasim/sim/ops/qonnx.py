"""Quantisers of the QONNX dialect (Pappalardo et al., arXiv:2206.07527): values on a grid, carried as reals.

`Quant` rounds to integers of `bits` bits, `BipolarQuant` to plus and minus one scale, `Trunc` drops low bits.
Scale and zero point broadcast to the tensor; widths are numbers. Each is a product, a sum and a rounding, and
for `Quant` two bounds, per element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import Kind, Node, Quant, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
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
    need,
    str_attr,
    vector_work,
)
from tetrasim.sim.ops.work import Work


def _up(x: Arr) -> Arr:
    return np.asarray(np.sign(x) * np.ceil(np.abs(x)))


def _half_up(x: Arr) -> Arr:
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + 0.5))


def _half_down(x: Arr) -> Arr:
    return np.asarray(np.sign(x) * np.ceil(np.abs(x) - 0.5))


ROUNDING: dict[str, Callable[[Arr], Arr]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": _up,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": _half_up,
    "HALF_DOWN": _half_down,
}


def _rounding(attrs: Attrs, default: str) -> Callable[[Arr], Arr]:
    mode = str_attr(attrs, "rounding_mode", default).upper()
    if mode not in ROUNDING:
        raise ShapeError(f"rounding mode '{mode}' is not one of {', '.join(ROUNDING)}")
    return ROUNDING[mode]


def integer_bounds(bits: float, signed: bool, narrow: bool) -> tuple[float, float]:
    """Smallest and largest integer; a fractional width bounds a range that is no power of two."""
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def _on_grid(types: Types, attrs: Attrs, bits: float) -> tuple[TensorType, ...]:
    x = need(types, 0)
    shape = broadcast(x.shape, *(t.shape for t in types[1:] if t is not None))
    kind = Kind.INT if int_attr(attrs, "signed", 1) else Kind.UINT
    scales = attrs.get("grid", ())
    grid = (
        Quant()
        if not isinstance(scales, tuple) or not scales
        else Quant((float(scales[0]),), (int(scales[1]),))
    )
    return (replace(x, shape=shape, kind=kind, bits=max(math.ceil(bits), 1), quant=grid),)


def _quant_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """`grid`: the scale and zero point where they are single numbers."""
    _rounding(attrs, "ROUND")
    return _on_grid(types, attrs, float_attr(attrs, "bits", 8))


def _quant(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, scale, zero = (as_float(have(arrays, i)) for i in range(3))
    bits = float_attr(attrs, "bits", 8)
    low, high = integer_bounds(bits, bool(int_attr(attrs, "signed", 1)), bool(int_attr(attrs, "narrow", 0)))
    steps = _rounding(attrs, "ROUND")(np.clip(x / scale + zero, low, high))
    return (((steps - zero) * scale).astype(x.dtype),)


def _bipolar_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _on_grid(types, {**attrs, "grid": ()}, 1)


def _bipolar(arrays: Arrays, _attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, scale = as_float(have(arrays, 0)), as_float(have(arrays, 1))
    return ((np.where(x >= 0, 1, -1) * scale).astype(x.dtype),)


def _trunc_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    _rounding(attrs, "FLOOR")
    return _on_grid(types, {**attrs, "grid": ()}, float_attr(attrs, "bits", 8))


def _trunc(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """Without an output scale the result keeps the scale of its input and loses `dropped` low bits; with one
    (version 2) the scales say how many, and the result is bounded by its width."""
    x, scale, zero = (as_float(have(arrays, i)) for i in range(3))
    steps = np.rint(x / scale + zero)
    rounding = _rounding(attrs, "FLOOR")
    if len(arrays) < 4:
        factor = 2.0 ** float_attr(attrs, "dropped", 0)
        return (((rounding(steps / factor) - zero) * scale).astype(x.dtype),)
    out_scale = as_float(have(arrays, 3))
    factor = 2.0 ** np.rint(np.log2(out_scale / scale))
    bits = float_attr(attrs, "bits", 8)
    low, high = integer_bounds(bits, bool(int_attr(attrs, "signed", 1)), bool(int_attr(attrs, "narrow", 0)))
    kept = np.clip(rounding(steps / factor), low, high)
    return (((kept - zero / factor) * out_scale).astype(x.dtype),)


def _work(node: Node) -> Work:
    if node.op == "BipolarQuant":
        return vector_work(node, {"cmp": 1, "select": 1})
    return vector_work(node, {"mul": 2, "add": 2, "max": 2 if node.op == "Quant" else 0, "cast": 1})


OPS = {
    "Quant": OpDef(_quant_type, _quant, _work),
    "BipolarQuant": OpDef(_bipolar_type, _bipolar, _work),
    "Trunc": OpDef(_trunc_type, _trunc, _work),
}
