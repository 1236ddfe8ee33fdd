"""Transformers as torch modules: configurations, blocks, presets."""

if __name__ != "tetrasim.models":
    raise ImportError("this package is a part of tetrasim: write `import tetrasim.models`")
