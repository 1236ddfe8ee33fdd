"""Rules of onnxruntime's own ops."""

DOMAINS = ("com.microsoft",)
