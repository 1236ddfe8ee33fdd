"""ONNX's codes of element types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.sim.ir.graph import Kind, TensorType

# onnx.TensorProto.DataType code -> (kind, bits); ONNX IR specification, table of element types. The FNUZ
# variants of float8 differ in range by a factor of two and in the codes of NaN and zero.
_FORMATS: dict[int, tuple[Kind, int]] = {
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
    18: (Kind.FLOAT, 8),
    19: (Kind.BFLOAT, 8),
    20: (Kind.BFLOAT, 8),
    21: (Kind.UINT, 4),
    22: (Kind.INT, 4),
    23: (Kind.FLOAT, 4),
    24: (Kind.EXPONENT, 8),
    25: (Kind.UINT, 2),
    26: (Kind.INT, 2),
}


def onnx_type(code: int, shape: tuple[int, ...]) -> TensorType:
    """The type of an ONNX element code.

    Raises:
        UserError: strings, complex numbers and formats without a model here.
    """
    if code not in _FORMATS:
        raise UserError(
            f"ONNX element type {code} is not supported",
            hint="supported: float64/32/16, bfloat16, float8 (E4M3, E5M2, E8M0), float4, int and uint of 2 "
            "to 64 bits, bool; strings and complex numbers are not",
        )
    kind, bits = _FORMATS[code]
    return TensorType(shape, kind, bits)


def onnx_code(type: TensorType) -> int:
    """The ONNX element code of a type (the first that has its format)."""
    return next(code for code, format in _FORMATS.items() if format == (type.kind, type.bits))


def unpacked(raw: NDArray[np.uint8], code: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Little-endian bytes of an ONNX tensor in its own type; elements below a byte get one each."""
    from onnx import helper

    stored = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    bits = _FORMATS[code][1]
    if bits >= 8:
        return raw.view(stored).reshape(shape)
    fields = [(raw >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    each = np.stack(fields, axis=-1).reshape(-1)[: int(np.prod(shape, dtype=np.int64))]
    if _FORMATS[code][0] is Kind.INT:
        each = np.where(each >= 2 ** (bits - 1), each.astype(np.int16) - 2**bits, each).astype(np.int8)
        return each.reshape(shape)
    return (each if _FORMATS[code][0] is Kind.UINT else each.view(stored)).reshape(shape)
