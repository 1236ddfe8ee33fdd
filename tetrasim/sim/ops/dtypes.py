"""Element formats: names, numpy types and ONNX codes. Floats narrower than 32 bits are carried as float32
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

# onnx.TensorProto.DataType code -> (kind, bits); ONNX IR specification, table of element types
_ONNX: dict[int, tuple[Kind, int]] = {
    1: (Kind.FLOAT, 32),
    2: (Kind.UINT, 8),
    3: (Kind.INT, 8),
    4: (Kind.UINT, 16),
    5: (Kind.INT, 16),
    6: (Kind.INT, 32),
    7: (Kind.INT, 64),
    9: (Kind.BOOL, 8),
    10: (Kind.FLOAT, 16),
    11: (Kind.FLOAT, 64),
    12: (Kind.UINT, 32),
    13: (Kind.UINT, 64),
    16: (Kind.BFLOAT, 16),
    17: (Kind.FLOAT, 8),
    21: (Kind.UINT, 4),
    22: (Kind.INT, 4),
}


def onnx_type(code: int, shape: tuple[int, ...]) -> TensorType:
    """The type of an ONNX element code.

    Raises:
        UserError: strings, complex numbers and formats without a model here.
    """
    if code not in _ONNX:
        raise UserError(
            f"ONNX element type {code} is not supported",
            hint="supported: float64/32/16, bfloat16, float8e4m3fn, int and uint of 4 to 64 bits, bool",
        )
    kind, bits = _ONNX[code]
    return TensorType(shape, kind, bits)


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
    for kind, bits in _ONNX.values():
        found = TensorType((), kind, bits)
        if found.dtype == name:
            return found
    raise UserError(f"unknown element type '{name}'")


def type_of(array: np.ndarray[Any, np.dtype[Any]]) -> TensorType:
    """The type of a numpy array (floats as they are)."""
    kinds = {"f": Kind.FLOAT, "i": Kind.INT, "u": Kind.UINT, "b": Kind.BOOL}
    return TensorType(tuple(array.shape), kinds[array.dtype.kind], array.dtype.itemsize * 8)
