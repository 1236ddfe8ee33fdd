"""A model of 69 billion parameters exports in seconds and little memory, shapes and types only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx

from tetrasim.export.manifest import read_manifest

_CODE = """
import resource, sys
from pathlib import Path
from tetrasim.export.exporter import export_model
found = export_model("llama2-70b", output=Path(sys.argv[1]))
peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
assert peak_bytes < 2e9, peak_bytes
assert found.manifest.weights == "absent"
"""


def test_llama2_70b(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    subprocess.run([sys.executable, "-c", _CODE, str(folder)], check=True, timeout=120)
    manifest = read_manifest(folder)
    assert (manifest.parameters, manifest.checks_note) == (68_976_648_192, "the weights are absent")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    model = onnx.load(str(folder / "step.onnx"), load_external_data=False)
    assert {p.key: p.value for p in model.metadata_props}["tetrasim.weights"] == "absent"
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    assert shapes["blocks.79.attention.key.weight"] == (8192, 1024)
    stored = sum(int(e.value) for t in model.graph.initializer for e in t.external_data if e.key == "length")
    assert stored == 4 * manifest.parameters
    assert len(model.graph.input) == 2 + 2 * 80
