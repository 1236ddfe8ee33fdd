"""`--measure`: onnxruntime's kernels are traced back to our nodes through fusions and renamings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.cpu import known_kernels
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.measure import make_feeds, measure
from tetrasim.hw_targets.registry import find_preset

WIDTH = 64


def host(**overrides: str | int) -> CpuConfig:
    config = find_preset("cpu/host")[1].config
    assert isinstance(config, CpuConfig)
    return with_overrides(config, {"threads": 1, "measured_as": "", **overrides})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A feed-forward block with a residual sum, as exporters write it, with a symbolic row count."""
    rng = np.random.default_rng(0)
    held = {
        "up": rng.standard_normal((WIDTH, 4 * WIDTH), np.float32),
        "up_bias": rng.standard_normal(4 * WIDTH, np.float32),
        "down": rng.standard_normal((4 * WIDTH, WIDTH), np.float32),
        "gamma": np.ones(WIDTH, np.float32),
        "beta": np.zeros(WIDTH, np.float32),
    }
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], name="ffn/norm", axis=-1),
        helper.make_node("MatMul", ["n", "up"], ["u"], name="ffn/up/MatMul"),
        helper.make_node("Add", ["u", "up_bias"], ["ub"], name="ffn/up/Add"),
        helper.make_node("Gelu", ["ub"], ["g"], name="ffn/Gelu"),
        helper.make_node("MatMul", ["g", "down"], ["d"], name="ffn/down/MatMul"),
        helper.make_node("Add", ["x", "d"], ["y"], name="ffn/Add"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, "seq", WIDTH]) for n in "xy")
    graph = helper.make_graph(
        nodes, "ffn", [x], [y], [numpy_helper.from_array(a, n) for n, a in held.items()]
    )
    path = tmp_path / "ffn.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_every_kernel_finds_its_node(model: Path) -> None:
    graph = import_onnx(model, {"seq": 48})
    found = measure(model, graph, host(), runs=3, at_least_s=0.0)
    assert found.unmatched == ()
    assert found.runs >= 3
    assert found.kernels_ms * 1e3 == pytest.approx(sum(us for _, _, _, us in found.by_op()))
    assert found.predicted_ms > 0
    assert found.error == pytest.approx(found.predicted_ms / found.measured_ms - 1)
    measured = {row.op for row in found.ops if row.measured_us is not None}
    assert {"LayerNormalization", "Gelu"} <= measured
    assert measured & {"Gemm", "MatMul"}
    assert sum(p for _, _, p, _ in found.by_op()) <= found.predicted_ms * 1e3 + 1e-6


def test_known_kernels_tell_how_the_machine_changed_since_its_calibration(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tuple(np.full(shape, 1e-3, np.float32) for shape in ((768, 3072), (3072, 768)))
    monkeypatch.setattr(known_kernels, "chain_weights", lambda _host: weights)
    graph = import_onnx(model, {"seq": 8})
    calibrated = host(measured_as="host")
    found = measure(model, graph, calibrated, runs=2, at_least_s=0.0, profile=False)
    drift = dict(found.drift)
    assert set(drift) == {"a product", "a streamed weight"}
    # a machine of twice the clock would find its products twice as slow as calibrated
    clock = calibrated.core.single_clock_hz
    faster = host(measured_as="host", **{"core.single_clock_hz": 2 * clock})
    known = known_kernels.KnownKernels(calibrated)
    known.visit()
    before = dict(known.drift())["a product"]
    known.config = faster
    assert dict(known.drift())["a product"] == pytest.approx(2 * before, rel=0.2)
    assert measure(model, graph, host(), runs=1, at_least_s=0.0, profile=False).drift == ()


def test_feeds_have_the_graph_shapes_and_are_the_same_every_time(model: Path) -> None:
    graph = import_onnx(model, {"seq": 48})
    feeds = make_feeds(graph)
    assert feeds["x"].shape == (1, 48, WIDTH)
    assert np.array_equal(feeds["x"], make_feeds(graph)["x"])


def test_what_cannot_be_measured_is_refused(model: Path, tmp_path: Path) -> None:
    graph = import_onnx(model, {"seq": 48})
    with pytest.raises(UserError, match="only float32 graphs can be measured, not bfloat16"):
        measure(model, graph, host(precision="bfloat16"))
    with pytest.raises(UserError, match=r"4096 threads cannot be measured"):
        measure(model, graph, host(cores=4096, threads=4096))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an onnx file")
    with pytest.raises(UserError, match="onnxruntime cannot load the file"):
        measure(broken, graph, host(), profile=False)
