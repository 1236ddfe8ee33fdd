"""How a processor rounds: float32 exactly, bfloat16 and float16 on storage with float32 accumulation, int8
products with dynamic quantisation (activations per tensor, weights per column, int32 accumulation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.cpu.config import CpuConfig, Dtype
from tetrasim.sim.ops.rounding import EXACT, stored
from tetrasim.sim.precision import BFLOAT16, FLOAT16, FLOAT32, INT8, Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.ir.graph import TensorType
    from tetrasim.sim.ops.arithmetic import Arithmetic

_FORMATS = {"float32": FLOAT32, "bfloat16": BFLOAT16, "float16": FLOAT16}


def precision_of(config: CpuConfig) -> Precision:
    """int8 is weight format only: activations are quantised on the way into each product."""
    if config.precision == "int8":
        return Precision(weights=INT8)
    f = _FORMATS[config.precision]
    return Precision(weights=f, activations=f, state=f)


@dataclass(frozen=True, slots=True)
class CpuArithmetic:
    """`sim.ops.arithmetic.Arithmetic` of one element format."""

    dtype: Dtype

    def store(self, x: NDArray[np.generic], type: TensorType) -> NDArray[np.generic]:
        """Round to the memory format of `type`."""
        return stored(x, type)

    def matmul(self, a: NDArray[np.generic], b: NDArray[np.generic]) -> NDArray[np.generic]:
        """Batched product; int8 applies to products with a matrix operand (linear layers)."""
        if self.dtype != "int8" or b.ndim != 2 or a.dtype.kind != "f":
            return np.asarray(np.matmul(_at_least_32(a), _at_least_32(b)))
        aq, a_scale = _quantise(a, axis=None)
        bq, b_scale = _quantise(b, axis=0)
        product = np.matmul(aq.astype(np.float64), bq.astype(np.float64))
        return np.asarray(product * (a_scale * b_scale)).astype(np.float32)

    def function(self, name: str, x: NDArray[np.generic]) -> NDArray[np.generic]:
        """Library functions, correctly rounded to float32 within an ulp or so: taken as exact."""
        return EXACT.function(name, x)


def arithmetic_of(config: CpuConfig) -> Arithmetic:
    """The arithmetic of a configuration."""
    return CpuArithmetic(config.precision)


def _at_least_32(x: NDArray[np.generic]) -> NDArray[np.generic]:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _quantise(x: NDArray[np.generic], axis: int | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Symmetric int8 integers and their scale (per tensor, or per column for `axis=0`)."""
    values = np.asarray(x, dtype=np.float64)
    largest = np.max(np.abs(values), axis=axis, keepdims=axis is not None)
    scale = np.where(largest > 0, largest / 127.0, 1.0)
    return np.clip(np.rint(values / scale), -127, 127), scale
