"""ONNX files -> `Graph`: the face of the front end. Nothing outside this folder knows ONNX's graph format."""

from tetrasim.frontend.onnx.importer import import_family, import_onnx, symbolic_dims

__all__ = ["import_family", "import_onnx", "symbolic_dims"]
