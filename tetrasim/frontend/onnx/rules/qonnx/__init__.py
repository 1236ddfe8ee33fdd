"""Rules of the QONNX dialect, which Brevitas and FINN write."""

DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas", "qonnx")
