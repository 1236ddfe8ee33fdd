"""Constants that are computed from constants, and evaluated only when somebody asks for their numbers.

A mask of 131,072 x 131,072 is such a constant: what it shows is read from the operations
(`passes/symbols.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.sim.ir.graph import Attr, Data, TensorType
from tetrasim.sim.ops.registry import find_op
from tetrasim.sim.ops.rounding import EXACT

MAX_LOADED = 1 << 29  # elements of a constant that is computed here


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """`Data` of an op whose inputs are constants or weights, evaluated when asked for."""

    op: str
    inputs: tuple[Data, ...]
    attrs: Mapping[str, Attr]
    index: int
    type: TensorType

    def load(self) -> NDArray[Any]:
        """Evaluate now.

        Raises:
            UserError: it is too large to be held.
        """
        elements = self.type.elements
        if elements > MAX_LOADED:
            raise UserError(
                f"a constant of {elements:,} elements, computed by {self.op}, is too large to be held",
                hint="is its shape right? compute it from a smaller constant",
            )
        arrays = [d.load() for d in self.inputs]
        return np.asarray(find_op(self.op).reference(arrays, self.attrs, EXACT)[self.index])
