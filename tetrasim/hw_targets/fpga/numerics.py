"""How the FPGA rounds: ap_fixed with round-to-nearest and saturation, fp16 with wide accumulation.

`quantise_fixed` is the arithmetic of `ap_fixed<bits, integer_bits, AP_RND, AP_SAT>` (Vitis HLS user guide):
values are multiples of 2**-(bits - integer_bits), ties round towards plus infinity, out-of-range values
saturate. Products are formed exactly and rounded once into the accumulator, as an adder tree with a sized
accumulator does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.sim.ir.graph import Kind
from tetrasim.sim.ops.arithmetic import Saturation
from tetrasim.sim.ops.rounding import stored
from tetrasim.sim.precision import Format

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.ir.graph import TensorType


def quantise_fixed(
    x: NDArray[np.generic], bits: int, integer_bits: int, *, rounding: bool = True, saturate: bool = True
) -> NDArray[np.float64]:
    """`x` in ap_fixed<bits, integer_bits>; without `rounding` it truncates (AP_TRN), without `saturate` it
    wraps."""
    scale = 2.0 ** (bits - integer_bits)
    scaled = np.asarray(x, np.float64) * scale
    q = np.floor(scaled + 0.5) if rounding else np.floor(scaled)
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    q = np.clip(q, low, high) if saturate else np.mod(q - low, 2.0**bits) + low
    return q / scale


MASKED = -1e4  # a mask's minus infinity at or below this wants to be clipped: it still hides its key


class _Clipped:
    """Counts of what one arithmetic clipped, by place and format."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, Format], int] = {}
        self.clipped: dict[tuple[str, Format], int] = {}
        self.largest: dict[tuple[str, Format], float] = {}

    def note(self, place: str, x: NDArray[np.generic], to: Format) -> None:
        """Count the numbers of `x` that `to` cannot hold."""
        key = (place, to)
        wide = np.asarray(x, np.float64)
        low, high = _ends(to)
        step = (high - low) / (2.0**to.bits - 1)
        beyond = (wide > high + step / 2) | ((wide < low - step / 2) & (wide > MASKED))
        count = int(np.count_nonzero(beyond))
        self.values[key] = self.values.get(key, 0) + wide.size
        if count:
            self.clipped[key] = self.clipped.get(key, 0) + count
            self.largest[key] = max(self.largest.get(key, 0.0), float(np.abs(wide[beyond]).max()))

    def found(self) -> tuple[Saturation, ...]:
        rows = [
            Saturation(place, to.name, self.values[place, to], n, self.largest[place, to], _ends(to)[1])
            for (place, to), n in self.clipped.items()
        ]
        return tuple(sorted(rows, key=lambda s: (-s.clipped / s.values, s.place, s.format)))


def _ends(of: Format) -> tuple[float, float]:
    """Smallest and largest number of a signed fixed-point format."""
    whole = of.bits if of.integer_bits is None else of.integer_bits
    step = 2.0 ** (whole - of.bits)
    return -(2.0 ** (of.bits - 1)) * step, (2.0 ** (of.bits - 1) - 1) * step


@dataclass(frozen=True)
class FpgaArithmetic:
    """`Arithmetic` of one card: storage by tensor type, matmul into `accumulate`. It notes what saturates."""

    accumulate: Format
    _noted: _Clipped = field(default_factory=_Clipped, compare=False, repr=False)

    def saturations(self) -> tuple[Saturation, ...]:
        """What was clipped so far, the largest share first."""
        return self._noted.found()

    def store(self, x: NDArray[np.generic], type: TensorType) -> NDArray[np.generic]:
        """Round to the tensor's memory format; integers and booleans pass."""
        if type.kind is Kind.FIXED:
            integer_bits = type.quant.integer_bits if type.quant is not None else None
            whole = type.bits if integer_bits is None else integer_bits
            self._noted.note("results", x, Format(Kind.FIXED, type.bits, whole))
            return quantise_fixed(x, type.bits, whole).astype(np.float32)
        return stored(x, type)

    def matmul(self, a: NDArray[np.generic], b: NDArray[np.generic]) -> NDArray[np.generic]:
        """Exact products; the sum is rounded once into the accumulator."""
        if self.accumulate.kind is not Kind.FIXED:
            return np.asarray(np.matmul(np.asarray(a, np.float32), np.asarray(b, np.float32)))
        exact = np.matmul(np.asarray(a, np.float64), np.asarray(b, np.float64))
        whole = self.accumulate.bits if self.accumulate.integer_bits is None else self.accumulate.integer_bits
        self._noted.note("accumulator", exact, self.accumulate)
        return quantise_fixed(exact, self.accumulate.bits, whole).astype(np.float32)

    def function(self, name: str, x: NDArray[np.generic]) -> NDArray[np.generic]:
        """Elementary functions to working precision; their results are rounded by `store`."""
        wide = np.asarray(x, np.float64)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return np.asarray(_FUNCTIONS[name](wide), np.float32)


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """erf on the unique values (numpy has none)."""
    from math import erf

    flat, inverse = np.unique(x, return_inverse=True)
    return np.array([erf(v) for v in flat], np.float64)[inverse].reshape(x.shape)


_FUNCTIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "exp": np.exp,
    "erf": _erf,
    "tanh": np.tanh,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "reciprocal": np.reciprocal,
    "sqrt": np.sqrt,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
}


def arithmetic(config: FpgaConfig) -> FpgaArithmetic:
    """The emulation of `config`'s number format."""
    return FpgaArithmetic(config.numbers.precision.accumulate)
