"""ONNX's codes of element types."""

from __future__ import annotations

from tetrasim.errors import UserError
from tetrasim.sim.ir.graph import Kind, TensorType

# onnx.TensorProto.DataType code -> (kind, bits); ONNX IR specification, table of element types
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
    21: (Kind.UINT, 4),
    22: (Kind.INT, 4),
}


def onnx_type(code: int, shape: tuple[int, ...]) -> TensorType:
    """The type of an ONNX element code.

    Raises:
        UserError: strings, complex numbers and formats without a model here.
    """
    if code not in _FORMATS:
        raise UserError(
            f"ONNX element type {code} is not supported",
            hint="supported: float64/32/16, bfloat16, float8e4m3fn, int and uint of 4 to 64 bits, bool",
        )
    kind, bits = _FORMATS[code]
    return TensorType(shape, kind, bits)
