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
    **{(Kind.INT, b): np.dtype(np.int8) for b in (2, 4)},
    **{(Kind.UINT, b): np.dtype(np.uint8) for b in (2, 4)},
}

# Every format that a file or a command line may name
FORMATS: tuple[tuple[Kind, int], ...] = (
    (Kind.FLOAT, 64),
    (Kind.FLOAT, 32),
    (Kind.FLOAT, 16),
    (Kind.FLOAT, 8),
    (Kind.FLOAT, 4),
    (Kind.BFLOAT, 16),
    (Kind.BFLOAT, 8),
    (Kind.EXPONENT, 8),
    *((kind, bits) for kind in (Kind.INT, Kind.UINT) for bits in (2, 4, 8, 16, 32, 64)),
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


def stored_dtype(type: TensorType) -> np.dtype[Any]:
    """The numpy type with the very bits of `type` (sub-byte formats: one element a byte)."""
    import ml_dtypes

    special: dict[tuple[Kind, int], Any] = {
        (Kind.FLOAT, 32): np.float32,
        (Kind.FLOAT, 16): np.float16,
        (Kind.BFLOAT, 16): ml_dtypes.bfloat16,
        (Kind.FLOAT, 8): ml_dtypes.float8_e4m3fn,
        (Kind.BFLOAT, 8): ml_dtypes.float8_e5m2,
        (Kind.FLOAT, 4): ml_dtypes.float4_e2m1fn,
        (Kind.EXPONENT, 8): ml_dtypes.float8_e8m0fnu,
    }
    found: np.dtype[Any] = np.dtype(special.get((type.kind, type.bits), numpy_dtype(type)))
    return found


# Largest finite numbers (OCP formats, version 1.0)
_LARGEST = {(Kind.FLOAT, 8): 448.0, (Kind.BFLOAT, 8): 57344.0, (Kind.FLOAT, 4): 6.0}


def in_float_format(x: np.ndarray[Any, Any], type: TensorType, saturate: bool = True) -> np.ndarray[Any, Any]:
    """`x` rounded to a float format, to nearest even, carried in float32 (64 bits stay). What is out of range
    becomes the largest number in formats of 8 bits when it saturates, and always in those of 4."""
    stored = stored_dtype(type)
    if type.bits >= 32:
        return x.astype(stored)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = x if x.dtype == np.float64 else x.astype(np.float32)
        if type.bits == 4 or (type.bits == 8 and saturate and type.kind is not Kind.EXPONENT):
            top = _LARGEST[type.kind, type.bits]
            wide = np.clip(wide, -top, top)
        return np.asarray(wide.astype(stored).astype(np.float32))


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
