"""One folder per kind of hardware, and what they share in `common`."""

if __name__ != "tetrasim.hw_targets":
    raise ImportError("this package is a part of tetrasim: write `import tetrasim.hw_targets`")
