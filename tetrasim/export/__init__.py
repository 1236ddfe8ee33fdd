"""torch -> ONNX: prefill and step graphs, weights once, a manifest, and the check that all agree."""
