"""Arithmetics: `EXACT` (float32, IEEE) and `RoundedArithmetic`, which stores results in narrower formats.

Rounding is to nearest even, through ml_dtypes for narrow floats (8 bits and fewer saturate), and by scaling
for fixed point (`ap_fixed` with AP_RND_CONV-like rounding and saturation).
Integer formats with a scale are rounded to the nearest step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.ir.graph import Kind, TensorType
from tetrasim.sim.ops.dtypes import in_float_format
from tetrasim.sim.precision import FLOAT32, Format

Arr = NDArray[Any]


def exact_function(name: str, x: Arr) -> Arr:
    """The named function in the precision of `x` (erf through float64).

    Raises:
        KeyError: a name outside the `Arithmetic` contract.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if name == "rsqrt":
            return np.asarray(1 / np.sqrt(x))
        if name == "reciprocal":
            return np.asarray(1 / x)
        if name == "erf":
            return erf(x)
        table = {"exp": np.exp, "tanh": np.tanh, "sqrt": np.sqrt, "log": np.log, "sin": np.sin, "cos": np.cos}
        return np.asarray(table[name](x))


def erf(x: Arr) -> Arr:
    """Error function to within 1.2e-7: Numerical Recipes' rational Chebyshev fit of erfc, in float64."""
    z = np.abs(x.astype(np.float64))
    t = 1 / (1 + 0.5 * z)
    poly = np.zeros_like(z)
    for c in reversed(_ERFC):
        poly = poly * t + c
    tail = t * np.exp(-z * z + poly)
    return np.asarray(np.where(x >= 0, 1 - tail, tail - 1)).astype(x.dtype)


_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def round_to(x: Arr, type: TensorType) -> Arr:
    """`x` rounded to what `type` can hold, still in float32 (integers and booleans pass unchanged)."""
    if type.quant is not None and type.kind is not Kind.FIXED:
        return _round_affine(x, type)
    if type.kind in (Kind.FLOAT, Kind.BFLOAT) and type.bits < 32:
        return in_float_format(x, type)
    if type.kind is Kind.FIXED and type.quant is not None and type.quant.integer_bits is not None:
        step = 2.0 ** (type.quant.integer_bits - type.bits)
        top = 2.0 ** (type.quant.integer_bits - 1)
        return np.asarray(np.clip(np.rint(x / step) * step, -top, top - step)).astype(np.float32)
    return x


def round_symmetric(x: Arr, bits: int) -> Arr:
    """`x` on the integer grid whose largest code is the largest magnitude of `x` (one scale per tensor): an
    integer format that nothing else gives a scale to."""
    top = 2 ** (bits - 1) - 1
    largest = float(np.max(np.abs(x), initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return x
    step = np.float32(largest / top)
    return np.asarray(np.rint(x / step) * step).astype(np.float32)


def _round_affine(x: Arr, type: TensorType) -> Arr:
    quant = type.quant
    assert quant is not None
    if not quant.scale:
        return x
    shape = [1] * x.ndim
    if quant.axis is not None:
        shape[quant.axis] = -1
    scale = np.array(quant.scale, dtype=np.float32).reshape(shape if len(quant.scale) > 1 else ())
    zero = np.array(quant.zero_point or (0,), dtype=np.float32)
    zero = zero.reshape(shape if zero.size > 1 else ())
    if type.kind in (Kind.FLOAT, Kind.BFLOAT):
        return np.asarray(in_float_format(x / scale, type) * scale).astype(np.float32)
    signed = type.kind is Kind.INT
    low, high = (-(2 ** (type.bits - 1)), 2 ** (type.bits - 1) - 1) if signed else (0, 2**type.bits - 1)
    return np.asarray((np.clip(np.rint(x / scale) + zero, low, high) - zero) * scale).astype(np.float32)


class Exact:
    """IEEE float32 throughout: the reference."""

    def store(self, x: Arr, type: TensorType) -> Arr:
        """Unchanged, except that a 64-bit float computed on the way is stored as float32 when asked."""
        if np.issubdtype(x.dtype, np.floating) and type.bits < 64 and x.dtype != np.float32:
            return x.astype(np.float32)
        return x

    def matmul(self, a: Arr, b: Arr) -> Arr:
        """numpy's product (float32 accumulation in BLAS order)."""
        return np.asarray(np.matmul(a, b))

    def function(self, name: str, x: Arr) -> Arr:
        """The exact function."""
        return exact_function(name, x)


EXACT = Exact()


def stored(x: Arr, type: TensorType) -> Arr:
    """What memory returns for `x` written as `type`: the `Arithmetic.store` of a machine without habits of
    its own. An integer format without a scale gets one per tensor; ids and masks pass."""
    if x.dtype.kind != "f" or type.bits == 64:
        return x
    if type.kind is Kind.INT and type.quant is None:
        return round_symmetric(EXACT.store(x, type), type.bits)
    return round_to(EXACT.store(x, type), type)


@dataclass(frozen=True)
class RoundedArithmetic:
    """Results rounded to the memory format of each value; operands of products to `multiply` (None: as
    stored), sums in `accumulate` (rounded once at the end: a model of a wide accumulator), functions
    evaluated in `function_format`."""

    multiply: Format | None = None
    accumulate: Format = FLOAT32
    function_format: Format = FLOAT32

    def store(self, x: Arr, type: TensorType) -> Arr:
        """Round to `type`."""
        return stored(x, type)

    def matmul(self, a: Arr, b: Arr) -> Arr:
        """Product with rounded operands and a rounded result."""
        if self.multiply is not None:
            a, b = (round_to(x, format_type(self.multiply)) for x in (a, b))
        return round_to(np.asarray(np.matmul(a, b)), format_type(self.accumulate))

    def function(self, name: str, x: Arr) -> Arr:
        """The exact function of a rounded argument, rounded."""
        kind = format_type(self.function_format)
        return round_to(exact_function(name, round_to(x, kind)), kind)


def format_type(format: Format) -> TensorType:
    """A scalar type in `format`."""
    from tetrasim.sim.ir.graph import Quant

    quant = None if format.integer_bits is None else Quant(integer_bits=format.integer_bits)
    return TensorType((), format.kind, format.bits, quant)
