"""torch -> ONNX: prefill and step graphs, weights once, a manifest, and the check that all agree."""

if __name__ != "tetrasim.export":
    raise ImportError("this package is a part of tetrasim: write `import tetrasim.export`")
