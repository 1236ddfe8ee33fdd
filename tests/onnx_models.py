"""Small ONNX models written by hand, for tests of the importer and the passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dim = int | str


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Dim]],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 20,
    types: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A model; inputs are float32 unless `types` says otherwise."""
    kinds = types or {}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def saved(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model as it is."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: object) -> onnx.NodeProto:
    """A named node (name: its first output)."""
    return helper.make_node(op, list(inputs), list(outputs), name=outputs[0], **attrs)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def f32(*shape: int, seed: int = 0) -> np.ndarray:
    """Random weights."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
