"""Layers are repeated only when two of them are the same computation; else the caller is told."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from tetrasim.export.phases import phases_of
from tetrasim.export.stamp import TRACED, stamp_layers
from tetrasim.export.trace import trace_phase
from tetrasim.models.config import ModelConfig
from tetrasim.models.transformer import build
from tetrasim.models.zoo import preset


def traced(**changes: Any) -> tuple[ModelConfig, ir.Model]:
    config = preset("digits-tiny").replace(layers=TRACED, **changes)
    return config, trace_phase(build(config), phases_of(config)[0])


@pytest.fixture(scope="module")
def stamped() -> ir.Model:
    _, model = traced()
    assert stamp_layers(model, 7)
    return model


def test_stamping_equals_tracing_everything(stamped: ir.Model) -> None:
    config = preset("digits-tiny").replace(layers=7)
    whole = trace_phase(build(config), phases_of(config)[0])
    assert [n.op_type for n in stamped.graph] == [n.op_type for n in whole.graph]
    weights = {name: tuple(value.shape or ()) for name, value in whole.graph.initializers.items()}
    found = {name: tuple(value.shape or ()) for name, value in stamped.graph.initializers.items()}
    assert {n: s for n, s in found.items() if "." in n} == {n: s for n, s in weights.items() if "." in n}
    for mine, its in zip(stamped.graph, whole.graph, strict=True):
        names = [[v.name for v in n.inputs if v is not None and "." in (v.name or "")] for n in (mine, its)]
        weight_names = [[name for name in row if name in weights] for row in names]
        assert weight_names[0] == weight_names[1]


def test_each_layer_reads_the_one_before(stamped: ir.Model) -> None:
    depth: dict[ir.Value | None, int] = {}
    for node in stamped.graph:
        below = max((depth.get(value, 0) for value in node.inputs), default=0)
        ends_layer = any((v.name or "").endswith("ffn.down.bias") for v in node.inputs if v is not None)
        depth.update(dict.fromkeys(node.outputs, below + ends_layer))
    assert depth[stamped.graph.outputs[0]] == 7


def test_layers_that_differ_are_not_stamped() -> None:
    _, merging = traced(merge_after=2)
    before = len(merging.graph)
    assert not stamp_layers(merging, 6)
    assert len(merging.graph) == before
    _, changed = traced()
    gelu = [n for n in changed.graph if n.op_type == "Relu"][1]
    replacement = ir.Node("", "Tanh", gelu.inputs, metadata_props=dict(gelu.metadata_props))
    ir.convenience.replace_nodes_and_values(
        changed.graph, gelu, [gelu], [replacement], gelu.outputs, replacement.outputs
    )
    assert not stamp_layers(changed, 6)
