"""How the GPU rounds: tensor cores multiply exactly what the operand format holds and add in float32.

float16 and bfloat16 round to nearest even; tfloat32 keeps 10 mantissa bits of each operand; E4M3, int8
and int4 carry a scale per tensor that maps the largest magnitude to the largest code. CUDA's float32
functions are within a few ulp, so they are taken as exact and their results rounded to the storage format.
Source: NVIDIA PTX ISA (mma, cvt); OCP 8-bit floating point specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.hw_targets.gpu.config import GpuConfig, Number
from tetrasim.sim.ir.graph import Kind, TensorType
from tetrasim.sim.ops.rounding import EXACT, round_to

Arr = NDArray[Any]
E4M3_MAX = 448.0
_FLOAT8 = TensorType((), Kind.FLOAT, 8)


def round_tfloat32(x: Arr) -> Arr:
    """float32 rounded to nearest even at 10 explicit mantissa bits."""
    drop = 13
    bits = np.asarray(x, dtype=np.float32, order="C").view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1)
    odd = (bits >> np.uint32(drop)) & np.uint32(1)
    rounded = (bits + half + odd) & np.uint32(0xFFFFFFFF ^ ((1 << drop) - 1))
    return np.where(np.isfinite(x), rounded.view(np.float32), x).astype(np.float32)


def round_scaled(x: Arr, kind: Kind, bits: int = 8) -> Arr:
    """Per-tensor scaled rounding: E4M3 for `Kind.FLOAT`, else symmetric integers of `bits`."""
    largest = float(np.max(np.abs(x), initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return x
    scale = np.float32(largest / (E4M3_MAX if kind is Kind.FLOAT else 2 ** (bits - 1) - 1))
    codes = round_to(x / scale, _FLOAT8) if kind is Kind.FLOAT else np.rint(x / scale)
    return np.asarray(codes * scale, dtype=np.float32)


@dataclass(frozen=True)
class GpuArithmetic:
    """`Arithmetic` of one number format; values are float32 arrays that the format can hold."""

    number: Number

    def store(self, x: Arr, type: TensorType) -> Arr:
        """Round to the memory format of `type`."""
        if x.dtype.kind != "f" or type.bits == 64:
            return x
        if type.bits in (4, 8) and type.quant is None and type.kind in (Kind.FLOAT, Kind.INT):
            return round_scaled(x.astype(np.float32), type.kind, type.bits)
        return round_to(EXACT.store(x, type), type)

    def matmul(self, a: Arr, b: Arr) -> Arr:
        """float32 sums of exact products of the operands as the unit reads them."""
        if a.dtype.kind != "f" or b.dtype.kind != "f":
            return EXACT.matmul(a, b)
        if self.number is Number.TFLOAT32:
            return EXACT.matmul(round_tfloat32(a), round_tfloat32(b))
        if self.number in (Number.FLOAT8, Number.INT8):
            a = round_scaled(a, Kind.FLOAT if self.number is Number.FLOAT8 else Kind.INT)
        return EXACT.matmul(a, b)

    def function(self, name: str, x: Arr) -> Arr:
        """The float32 function."""
        return EXACT.function(name, x)


def arithmetic_of(config: GpuConfig) -> GpuArithmetic:
    """The arithmetic of the precision in use."""
    return GpuArithmetic(config.precision)
