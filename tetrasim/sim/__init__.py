"""What is simulated, whatever the target: graphs, ops, passes, engines, energy, analysis."""

if __name__ != "tetrasim.sim":
    raise ImportError("this package is a part of tetrasim: write `import tetrasim.sim`")
