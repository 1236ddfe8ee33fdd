"""Rules of ONNX's own domain."""

DOMAINS = ("", "ai.onnx")
