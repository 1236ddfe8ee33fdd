"""How a machine rounds: the hook through which one interpreter emulates every target's numerics.

Reference semantics in `sim/ops/` call `arith.matmul`, `arith.function` and the interpreter calls
`arith.store` on every result, so a target describes its arithmetic once (`hw_targets/<t>/numerics.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.ir.graph import TensorType


class Arithmetic(Protocol):
    """All arrays are float32 (or the graph's integers); values are rounded, not repacked."""

    def store(self, x: NDArray[np.generic], type: TensorType) -> NDArray[np.generic]:
        """Round a result to what the memory format of `type` can hold."""
        ...

    def matmul(self, a: NDArray[np.generic], b: NDArray[np.generic]) -> NDArray[np.generic]:
        """Batched product with the machine's product precision and accumulation order."""
        ...

    def function(self, name: str, x: NDArray[np.generic]) -> NDArray[np.generic]:
        """exp, erf, tanh, rsqrt, reciprocal, sqrt, log, sin, cos: exact or the machine's approximation."""
        ...


@runtime_checkable
class ActivationUnit(Protocol):
    """An arithmetic whose machine computes whole activations its own way: by a table, or by one series."""

    def activation(
        self, op: str, exact: Callable[[NDArray[np.generic]], NDArray[np.generic]], x: NDArray[np.generic]
    ) -> NDArray[np.generic] | None:
        """The activation of IR op `op` (whose exact function fills tables); None: by its formula."""
        ...


@dataclass(frozen=True, slots=True)
class Saturation:
    """Values that a fixed-point format could not hold and that became its largest or smallest number.

    `clipped` of `values` numbers lay beyond the format's range; the largest of them had magnitude `largest`,
    the format ends at `limit`. `place` is "results" or "accumulator".
    """

    place: str
    format: str
    values: int
    clipped: int
    largest: float
    limit: float

    @property
    def text(self) -> str:
        """One clause for a headline."""
        share = self.clipped / self.values if self.values else 0.0
        return (
            f"{share:.2%} of the values in {self.format} ({self.place}) saturate: up to {self.largest:.4g}, "
            f"the format ends at {self.limit:.4g}"
        )


@runtime_checkable
class Saturating(Protocol):
    """An arithmetic that notes what it clips while it computes."""

    def saturations(self) -> tuple[Saturation, ...]:
        """What was clipped so far, the largest share first; empty when nothing was."""
        ...
