"""Results as files and text: `report.json`, `index.html`, `ops.csv`, the trace, the lock file."""

if __name__ != "tetrasim.reports":
    raise ImportError("this package is a part of tetrasim: write `import tetrasim.reports`")
