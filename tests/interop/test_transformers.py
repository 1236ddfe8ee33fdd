"""Exports of `transformers` models import completely and compute what onnxruntime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers_models import TOKENS, VOCAB, export

from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.analysis.coverage import coverage
from tetrasim.sim.ir.graph import Graph, Kind
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.dtypes import numpy_dtype

pytest.importorskip("transformers")

# What must have been recovered, op -> how many: one attention per layer and kind, norms as the model has
RECOVERED = {
    "gpt2": {"Attention": 2, "LayerNormalization": 5, "Gelu": 2},
    "llama": {"Attention": 2, "RMSNormalization": 5, "SwiGLU": 2, "RotaryEmbedding": 4},
    "bert": {"Attention": 2, "LayerNormalization": 6, "Gelu": 3},
    "vit": {"Attention": 2, "LayerNormalization": 5, "Gelu": 2},
    "t5": {"Attention": 6, "RMSNormalization": 12},
    "whisper": {"Attention": 6, "LayerNormalization": 12, "Gelu": 6},
    "mamba": {"RMSNormalization": 3},
}
CASES = [(name, "dynamo") for name in RECOVERED]
# whisper's mask needs aten::diff, which torch's older exporter cannot write
CASES += [(name, "torchscript") for name in RECOVERED if name != "whisper"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    """Path of an export, made once."""
    folder, made = tmp_path_factory.mktemp("exports"), {}

    def get(name: str, style: str) -> Path:
        path = folder / f"{name}-{style}.onnx"
        if path not in made:
            export(name, style, path)
            made[path] = True
        return path

    return get


def feeds_of(graph: Graph) -> dict[str, np.ndarray]:
    """Random inputs; masks are all ones but for the first token."""
    rng = np.random.default_rng(1)
    feeds = {}
    for value in graph.inputs:
        shape, dtype = value.type.shape, numpy_dtype(value.type)
        if "mask" in value.name:
            array = np.ones(shape)
            array[..., 0] = 0 if shape[-1] == TOKENS else 1
        elif value.type.kind is Kind.FLOAT:
            array = rng.standard_normal(shape)
        else:
            array = rng.integers(0, VOCAB, shape)
        feeds[value.name] = array.astype(dtype)
    return feeds


def onnxruntime_outputs(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    ort.set_default_logger_severity(3)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize(("name", "style"), CASES)
def test_export_is_covered_and_computes_the_same(name: str, style: str, exported) -> None:
    path = exported(name, style)
    graph = import_onnx(path)
    covered = coverage([graph])
    assert covered.nodes_modelled == covered.nodes > 0
    feeds = feeds_of(graph)
    expected = onnxruntime_outputs(path, feeds)
    for output, actual in interpret(graph, feeds).items():
        assert np.abs(actual - expected[output]).max() < 1e-4
    ops = [n.op for n in graph.nodes]
    assert {op: ops.count(op) for op in RECOVERED[name]} == RECOVERED[name]
    if "Attention" in RECOVERED[name]:
        assert "Softmax" not in ops


@pytest.mark.parametrize(("name", "style"), [c for c in CASES if c[0] in ("llama", "bert", "t5")])
def test_rewrites_change_nothing_but_the_form(name: str, style: str, exported) -> None:
    path = exported(name, style)
    raw, rewritten = import_onnx(path, rewrites=False), import_onnx(path)
    feeds = feeds_of(raw)
    before, after = interpret(raw, feeds), interpret(rewritten, feeds)
    assert len(rewritten.nodes) < len(raw.nodes)
    for output, expected in before.items():
        assert np.abs(after[output] - expected).max() < 2e-6


@pytest.mark.parametrize("name", ["bert", "vit", "gpt2"])
def test_ort_optimised_files_compute_the_same(name: str, exported, tmp_path: Path) -> None:
    """onnxruntime's own optimiser writes com.microsoft ops; they import and agree too."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    path = exported(name, "torchscript")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = import_onnx(tmp_path / "optimised.onnx")
    feeds = feeds_of(graph)
    expected = onnxruntime_outputs(path, feeds)
    for output, actual in interpret(graph, feeds).items():
        assert np.abs(actual - expected[output]).max() < 1e-4


def _quantised(path: Path, folder: Path, how: str) -> Path:
    """The file quantised by onnxruntime's own tools."""
    import onnx
    from onnxruntime import quantization as q
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    out = folder / f"{how}.onnx"
    if how == "dynamic":
        q.quantize_dynamic(path, out)
    elif how == "nbits":
        four_bits = MatMulNBitsQuantizer(onnx.load(path), block_size=16, is_symmetric=False)
        four_bits.process()
        four_bits.model.save_model_to_file(str(out))
    else:

        class Reader(q.CalibrationDataReader):
            def __init__(self) -> None:
                self.rows = iter([feeds_of(import_onnx(path))])

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self.rows, None)

        kind = q.QuantFormat.QDQ if how == "qdq" else q.QuantFormat.QOperator
        q.quantize_static(path, out, Reader(), quant_format=kind)
    return out


@pytest.mark.parametrize("how", ["dynamic", "nbits", "qdq", "qoperator"])
def test_quantised_files_compute_the_same(how: str, exported, tmp_path: Path) -> None:
    path = _quantised(exported("vit", "torchscript"), tmp_path, how)
    graph = import_onnx(path)
    assert coverage([graph]).nodes_modelled == len(graph.nodes)
    narrow = [v for v in graph.values() if v.type.kind in (Kind.INT, Kind.UINT) and v.type.bits <= 8]
    assert narrow, "nothing is stored in integers"
    feeds = feeds_of(graph)
    expected = onnxruntime_outputs(path, feeds)
    for output, actual in interpret(graph, feeds).items():
        # one step of the last quantiser may fall the other way
        assert np.abs(actual - expected[output]).max() < 2e-2 * np.abs(expected[output]).max()
