"""The examples are valid studies, and the FPGA one runs: training, quantised accuracy, latency, resources."""

import ast
import importlib.util
from pathlib import Path

import pytest

from tetrasim.dse import folder as folders
from tetrasim.dse.executors import InProcess
from tetrasim.dse.spec_file import load_spec, make_spec
from tetrasim.dse.store import Store
from tetrasim.dse.study import run_study

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda f: f.stem)
def test_a_study_file_is_valid(file: Path) -> None:
    spec = load_spec(file)
    assert spec.name == file.stem
    assert spec.parameters


def test_the_python_example_holds_a_valid_study_in_thirty_lines() -> None:
    file = EXAMPLES / "explore.py"
    code = importlib.util.spec_from_file_location("explore_example", file)
    assert code is not None
    assert code.loader is not None
    module = importlib.util.module_from_spec(code)
    code.loader.exec_module(module)
    assert make_spec(module.STUDY).grid_size == 24
    lines = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.stmt)]
    assert len({n.lineno for n in lines}) <= 30


def test_fpga_digits_trains_quantises_and_places(tmp_path: Path) -> None:
    """Two formats of one small shape: the wide one classifies well, the narrow one uses fewer LUTs."""
    spec = load_spec(EXAMPLES / "fpga_digits.yaml")
    tree = spec.model_dump(mode="json")
    tree["model"]["dims"] = {"width": 8, "ffn_ratio": 2, "tokens": 4}
    tree["targets"] = {
        "fpga/zcu102": {
            "mapping": "spatial",
            "numbers.bits": [8, 18],
            "numbers.integer_bits": 6,
            "spatial.reuse": 2,
        }
    }
    tree["search"] = {"sampler": "grid", "trials": 2}
    spec = make_spec(tree)
    state = run_study(spec, folders.start(spec, tmp_path), InProcess(spec, Store(tmp_path / "store")))
    narrow, wide = (t.metrics for t in state.trials)
    assert wide["accuracy"] > 0.9
    assert wide["accuracy"] > narrow["accuracy"]
    assert narrow["lut"] < wide["lut"]
