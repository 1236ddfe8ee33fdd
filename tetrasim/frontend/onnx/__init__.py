"""ONNX files -> `Graph`: the face of the front end. Nothing outside this folder knows ONNX's graph format."""

from tetrasim.frontend.onnx.dim_groups import OpenDim, open_dims_of
from tetrasim.frontend.onnx.importer import given_value, import_family, import_onnx, symbolic_dims
from tetrasim.frontend.onnx.reader import external_files, parsed
from tetrasim.frontend.onnx.support import OperatorSupport, Support, by_support, operators

__all__ = [
    "OpenDim",
    "OperatorSupport",
    "Support",
    "by_support",
    "external_files",
    "given_value",
    "import_family",
    "import_onnx",
    "open_dims_of",
    "operators",
    "parsed",
    "symbolic_dims",
]
