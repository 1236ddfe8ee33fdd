"""Element formats: names and numpy types. Floats narrower than 32 bits are carried as float32
in the interpreter (values are rounded, not repacked)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tetrasim.errors import UserError
from tetrasim.sim.ir.graph import Kind, TensorType

_NUMPY: dict[tuple[Kind, int], Any] = {
    (Kind.FLOAT, 64): np.float64,
    **{(Kind.INT, b): np.dtype(f"int{b}") for b in (8, 16, 32, 64)},
    **{(Kind.UINT, b): np.dtype(f"uint{b}") for b in (8, 16, 32, 64)},
    (Kind.INT, 4): np.int8,
    (Kind.UINT, 4): np.uint8,
}

# Every format that a file or a command line may name
FORMATS: tuple[tuple[Kind, int], ...] = (
    (Kind.FLOAT, 64),
    (Kind.FLOAT, 32),
    (Kind.FLOAT, 16),
    (Kind.FLOAT, 8),
    (Kind.BFLOAT, 16),
    *((kind, bits) for kind in (Kind.INT, Kind.UINT) for bits in (4, 8, 16, 32, 64)),
    (Kind.BOOL, 8),
)


def numpy_dtype(type: TensorType) -> np.dtype[Any]:
    """How the interpreter carries elements of `type`."""
    if type.quant is not None:
        return np.dtype(np.float32)
    if type.kind is Kind.BOOL:
        return np.dtype(bool)
    found: np.dtype[Any] = np.dtype(_NUMPY.get((type.kind, type.bits), np.float32))
    return found


def parse_dtype(name: str) -> TensorType:
    """`"float16"`, `"bool"` -> a scalar type of that format.

    Raises:
        UserError: unknown name.
    """
    for kind, bits in FORMATS:
        found = TensorType((), kind, bits)
        if found.dtype == name:
            return found
    raise UserError(f"unknown element type '{name}'")


def type_of(array: np.ndarray[Any, np.dtype[Any]]) -> TensorType:
    """The type of a numpy array (floats as they are)."""
    kinds = {"f": Kind.FLOAT, "i": Kind.INT, "u": Kind.UINT, "b": Kind.BOOL}
    return TensorType(tuple(array.shape), kinds[array.dtype.kind], array.dtype.itemsize * 8)
