"""What a written project does by itself: its testbench decides, hls4ml links it, it fits its part."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_graphs import Maker, encoder

from tetrasim.cli import main
from tetrasim.errors import CapacityError
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.emulate import run_real
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.project import generate
from tetrasim.sim.ir.graph import Array, Graph, Role, TensorType, Value
from tetrasim.sim.ir.interpreter import interpret

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
FEW = HlsOptions(samples=12, calibration=12)


def mlp(*sizes: int, rows: int = 1) -> Graph:
    m = Maker()
    given = x = Value("x", TensorType((1, rows, sizes[0])), Role.INPUT)
    for i, n in enumerate(sizes[1:]):
        x = m.linear(x, n, f"d{i}")
    return Graph("mlp", tuple(m.nodes), (given,), (x,))


@needs_compiler
@pytest.mark.parametrize("io", ["stream", "parallel"])
def test_the_testbench_passes_and_fails_with_one_other_weight(tmp_path: Path, io: str) -> None:
    folder = tmp_path / "p"
    generate(mlp(4, 3, 2, rows=2), folder, replace(FEW, io=io), check=False)
    build = ["g++", "-O0", "-Ifirmware/ap_types", "tetrasim_top_test.cpp", "firmware/tetrasim_top.cpp"]
    subprocess.run([*build, "-o", "bench"], cwd=folder, check=True)
    good = subprocess.run(["./bench"], cwd=folder, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stdout
    assert "PASS: 48 values, bit for bit" in good.stdout
    weights = sorted((folder / "firmware" / "weights").glob("w*.txt"))[0]
    first, _, others = weights.read_text().partition(",")
    weights.write_text(f"{-float(first)!r},{others}")
    bad = subprocess.run(["./bench"], cwd=folder, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "FAIL: " in bad.stdout
    (folder / "tb_data" / "tb_input_features.dat").unlink()
    none = subprocess.run(["./bench"], cwd=folder, capture_output=True, text=True, check=False)
    assert none.returncode == 1
    assert "FAIL: no inputs" in none.stdout


@needs_compiler
def test_hls4ml_links_the_folder_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(mlp(4, 2), Path("build/p"), FEW).numerics.bit_exact  # a relative folder, checked
    script = (
        "import sys, numpy as np\nfrom hls4ml.converters import link_existing_project\n"
        "m = link_existing_project(sys.argv[1]); m.compile()\n"
        "print(m.predict(np.zeros((2, 4), np.float32)).shape)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "build" / "p")]
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    said = subprocess.run(
        command, cwd=elsewhere, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert "(2, 2)" in said.stdout


def test_a_design_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    small = HlsOptions(part="xc7z020clg400-1", samples=4, calibration=4)
    graph = encoder(blocks=2)
    with pytest.raises(CapacityError, match="does not fit xc7z020clg400-1") as refusal:
        generate(graph, tmp_path / "p", small, check=False)
    assert "no reuse factor fits: fewer --bits, a larger --part" in refusal.value.hint
    large = replace(small, part="xcvu13p-flga2577-2-e", reuse=1)
    with pytest.raises(CapacityError, match=r"at reuse 1 it needs .* of the usable") as refusal:
        generate(encoder(blocks=3), tmp_path / "p", large, check=False)
    assert "--reuse 2 fits" in refusal.value.hint
    assert not list(tmp_path.iterdir())
    made = generate(graph, tmp_path / "p", replace(small, oversize=True, reuse=1), check=False)
    assert made.estimate is not None
    assert not made.estimate.fits


def test_part_slips_end_with_two_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["hls", "jet-btag", "-o", "p", "--part", "xcvu13p-flga2577-9-zz", "-q"]) == 2
    assert "did you mean 'xcvu13p-flga2577-2-e'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def constant(numbers: np.ndarray, name: str) -> Value:
    data = numbers.astype(np.float32)
    return Value(name, TensorType(data.shape), Role.WEIGHT, Array(data))


def normalised(place: str) -> Graph:
    """A convolution with a batch normalisation before or behind it."""
    m, rng = Maker(), np.random.default_rng(5)
    given = x = Value("x", TensorType((1, 3, 6)), Role.INPUT)

    def norm(x: Value) -> Value:
        channels = x.type.shape[1]
        numbers = [rng.normal(size=channels) for _ in range(3)] + [rng.uniform(0.5, 2, channels)]
        constants = [constant(v, f"n{i}") for i, v in enumerate(numbers)]
        return m.op("BatchNormalization", [x, *constants], x.type.shape, "norm")

    if place == "before":
        x = norm(x)
    kernel = constant(rng.normal(size=(4, 3, 2)), "kernel")
    x = m.op("Conv", [x, kernel], (1, 4, 5), "conv", kernel_shape=(2,))
    if place == "after":
        x = norm(x)
    return Graph("normalised", tuple(m.nodes), (given,), (x,))


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_batch_norm_joins_the_product_beside_it(place: str) -> None:
    graph = normalised(place)
    plan = convert(graph)
    assert not [x for x in plan.layers if isinstance(x, p.Affine)]
    feed = np.random.default_rng(6).normal(size=(1, 3, 6)).astype(np.float32)
    (expected,) = interpret(graph, {"x": feed}).values()
    made = run_real(plan, {plan.inputs[0].name: feed.astype(np.float64)})[plan.outputs[0]]
    np.testing.assert_allclose(made, expected.reshape(1, -1), rtol=1e-4, atol=1e-5)
