"""A small variant of every model family exports, and torch, onnxruntime and the interpreter agree on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import onnx
import pytest

from tetrasim.export.exporter import export_model
from tetrasim.export.manifest import ExportedModel
from tetrasim.export.stamp import TRACED
from tetrasim.models.config import ModelConfig
from tetrasim.models.zoo import preset

SMALL: dict[str, dict[str, Any]] = {
    "gpt2-small": {"width": 32, "heads": 4, "layers": 5, "ffn_width": 64, "context": 24},
    "llama2-70b": {"width": 32, "heads": 4, "kv_heads": 2, "layers": 5, "ffn_width": 48, "context": 24},
    "bert-base": {"width": 32, "heads": 4, "layers": 5, "ffn_width": 64, "context": 24},
    "vit-b16": {"width": 32, "heads": 4, "layers": 4, "ffn_width": 64},
    "ligo": {},
    "car-engine": {"layers": 1},
    "jet-btag": {},
    "patchtst-small": {"layers": 1},
    "digits-tiny": {"layers": 4, "merge_after": 2},
}
INPUTS = {
    "gpt2-small": {"kind": "tokens", "vocab": 50},
    "llama2-70b": {"kind": "tokens", "vocab": 50},
    "bert-base": {"kind": "tokens", "vocab": 50, "segments": 2},
    "vit-b16": {"kind": "patches", "image": 32, "patch": 16, "channels": 3},
}


def small(name: str) -> ModelConfig:
    changes = dict(SMALL[name])
    if name in INPUTS:
        changes["input"] = INPUTS[name]
    return preset(name).replace(**changes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ExportedModel]:
    """The export of a small variant, made once for all tests of this file."""
    folder = tmp_path_factory.mktemp("exports")
    return cache(lambda name: export_model(small(name), output=folder / name))


@pytest.mark.parametrize("name", SMALL)
def test_the_three_agree(name: str, exported: Callable[[str], ExportedModel]) -> None:
    config = small(name)
    found = exported(name)
    manifest = found.manifest
    assert manifest.has_weights
    names = [check.name for check in manifest.checks]
    assert any("onnxruntime" in n for n in names)
    assert any("interpreter" in n for n in names)
    assert manifest.max_abs_error < 1e-4
    assert all(check.output_range > 1e-3 for check in manifest.checks), "the comparison saw only zeros"
    if config.architecture == "decoder":
        assert sum("prefill + steps" in n for n in names) == 2
        _check_step(found, config)
    for entry in manifest.phases:
        onnx.checker.check_model(str(found.path(entry.phase.name)))


def _check_step(found: ExportedModel, config: ModelConfig) -> None:
    """Every layer's cache is an input and an output, and `past` stays symbolic."""
    phase = found.phase("step")
    assert phase.symbols == ("batch", "past")
    assert len(phase.states) == 2 * config.layers > 2 * TRACED
    graph = onnx.load(str(found.path("step")), load_external_data=False).graph
    assert [value.name for value in graph.input] == [port.name for port in phase.inputs]
    assert [value.name for value in graph.output] == [port.name for port in phase.outputs]
    last = graph.input[-1]
    dims = [d.dim_param or d.dim_value for d in last.type.tensor_type.shape.dim]
    assert (last.name, dims) == (
        f"past_value.{config.layers - 1}",
        ["batch", config.kv_heads, "past", config.head_dim],
    )


def test_both_phases_share_one_weight_file(exported: Callable[[str], ExportedModel]) -> None:
    found = exported("gpt2-small")
    places = []
    for phase in ("prefill", "step"):
        graph = onnx.load(str(found.path(phase)), load_external_data=False).graph
        places.append(
            {
                t.name: {e.key: e.value for e in t.external_data}
                for t in graph.initializer
                if t.data_location == onnx.TensorProto.EXTERNAL
            }
        )
    assert places[0] == places[1]
    assert {entry["location"] for entry in places[0].values()} == {"weights.bin"}
    assert "head.weight" not in places[0], "a tied table is stored once"
    opset = onnx.load(str(found.path("step")), load_external_data=False)
    assert opset.opset_import[0].version >= 20
    assert opset.ir_version <= 13


def test_linear_layers_are_plain_products(exported: Callable[[str], ExportedModel]) -> None:
    found = exported("llama2-70b")
    graph = onnx.load(str(found.path("step")), load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    turned = [n.input[0] for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]
    assert turned == []
