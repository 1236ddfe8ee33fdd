"""ONNX files -> `Graph`: the face of the front end. Nothing outside this folder knows ONNX's graph format."""

from tetrasim.frontend.onnx.importer import given_value, import_family, import_onnx, symbolic_dims
from tetrasim.frontend.onnx.support import OperatorSupport, Support, by_support, operators

__all__ = [
    "OperatorSupport",
    "Support",
    "by_support",
    "given_value",
    "import_family",
    "import_onnx",
    "operators",
    "symbolic_dims",
]
