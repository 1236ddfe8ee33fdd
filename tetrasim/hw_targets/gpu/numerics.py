"""How the GPU rounds: tensor cores multiply exactly what the operand format holds and add in float32.

float16 and bfloat16 round to nearest even; tfloat32 keeps 10 mantissa bits of each operand; float8 is E4M3
with a scale per tensor (saturating at 448). CUDA math functions are within a few float32 ulp, so they are
taken as exact and their results rounded to the storage format. Source: NVIDIA PTX ISA (mma, cvt), OCP OFP8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.config import GpuConfig, Number
from tetrasim.sim.ir.graph import Kind
from tetrasim.sim.ops import arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.ir.graph import TensorType

E4M3_MAX = 448.0


def round_mantissa(x: NDArray[np.float32], keep: int) -> NDArray[np.float32]:
    """float32 rounded to nearest even at `keep` explicit mantissa bits (7: bfloat16, 10: tfloat32)."""
    drop = 23 - keep
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1)
    odd = (bits >> np.uint32(drop)) & np.uint32(1)
    rounded = (bits + half + odd) & np.uint32(0xFFFFFFFF ^ ((1 << drop) - 1))
    out = rounded.view(np.float32)
    return np.where(np.isfinite(x), out, x).astype(np.float32)


def round_e4m3(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 rounded to E4M3 (3 mantissa bits, smallest exponent -6, saturating at 448)."""
    _, exponent = np.frexp(x)
    step = np.ldexp(np.float32(1), np.maximum(exponent - 1, -6) - 3)
    rounded = np.clip(np.rint(x / step) * step, -E4M3_MAX, E4M3_MAX)
    return np.asarray(rounded, dtype=np.float32)


def round_scaled(x: NDArray[np.float32], number: Number) -> NDArray[np.float32]:
    """Per-tensor scaled 8-bit rounding: the largest magnitude maps to the largest code."""
    largest = float(np.max(np.abs(x), initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return x
    if number is Number.FLOAT8:
        scale = np.float32(largest / E4M3_MAX)
        return round_e4m3(x / scale) * scale
    scale = np.float32(largest / 127)
    return np.asarray(np.rint(x / scale) * scale, dtype=np.float32)


@dataclass(frozen=True)
class GpuArithmetic:
    """`Arithmetic` of one precision; values are float32 arrays that the format can hold."""

    number: Number

    def store(self, x: NDArray[np.generic], type: TensorType) -> NDArray[np.generic]:
        if type.kind is Kind.BFLOAT and x.dtype.kind == "f":
            return round_mantissa(x.astype(np.float32), 7)
        if type.kind is Kind.FLOAT and type.bits == 16 and x.dtype.kind == "f":
            return x.astype(np.float16).astype(np.float32)
        if type.kind is Kind.FLOAT and type.bits == 8 and x.dtype.kind == "f":
            return round_scaled(x.astype(np.float32), Number.FLOAT8)
        if type.kind is Kind.INT and type.bits == 8 and x.dtype.kind == "f":
            return round_scaled(x.astype(np.float32), Number.INT8)
        return arithmetic.EXACT.store(x, type)

    def matmul(self, a: NDArray[np.generic], b: NDArray[np.generic]) -> NDArray[np.generic]:
        if a.dtype.kind != "f" or b.dtype.kind != "f":
            return arithmetic.EXACT.matmul(a, b)
        left, right = a.astype(np.float32), b.astype(np.float32)
        if self.number is Number.TFLOAT32:
            left, right = round_mantissa(left, 10), round_mantissa(right, 10)
        elif self.number in (Number.FLOAT8, Number.INT8):
            left = round_scaled(left, self.number)
        return np.asarray(left @ right, dtype=np.float32)

    def function(self, name: str, x: NDArray[np.generic]) -> NDArray[np.generic]:
        return arithmetic.EXACT.function(name, x)


def arithmetic_of(config: GpuConfig) -> GpuArithmetic:
    """The arithmetic of the precision in use."""
    return GpuArithmetic(config.precision)
