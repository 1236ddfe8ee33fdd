"""Small ONNX files for tests of the command line: an MLP block, and broken variants of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def mlp(width: int = 16, hidden: int = 32, rows: int | str = "rows") -> onnx.ModelProto:
    """LayerNorm-free feed-forward block: MatMul, Add, Relu, MatMul; seeded weights, open dim `rows`."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((width, hidden)) * 0.1,
        "b1": rng.standard_normal(hidden) * 0.1,
        "w2": rng.standard_normal((hidden, width)) * 0.1,
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h1"], name="up"),
        helper.make_node("Add", ["h1", "b1"], ["h2"], name="bias"),
        helper.make_node("Relu", ["h2"], ["h3"], name="relu"),
        helper.make_node("MatMul", ["h3", "w2"], ["y"], name="down"),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, width])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def write(folder: Path) -> None:
    """`mlp.onnx`, and one file per way in which a file can be wrong."""
    good = mlp()
    onnx.save(good, folder / "mlp.onnx")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "truncated.onnx").write_bytes(good.SerializeToString()[:200])
    (folder / "not_onnx.onnx").write_text("this is text\n" * 30)
    _changed(folder / "cyclic.onnx", _cycle)
    _changed(folder / "unsupported.onnx", _unsupported)
    _changed(folder / "dangling.onnx", _dangling)
    _changed(folder / "external_missing.onnx", lambda m: _external(m, "weights.bin"))
    _changed(folder / "external_outside.onnx", lambda m: _external(m, "../secret.bin"))
    no_nodes = mlp()
    del no_nodes.graph.node[:]
    del no_nodes.graph.output[:]
    onnx.save(no_nodes, folder / "no_nodes.onnx")


def _changed(file: Path, change: object) -> None:
    model = mlp(rows=4)
    assert callable(change)
    change(model)
    file.write_bytes(model.SerializeToString())


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "h3"


def _unsupported(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Reluu"


def _dangling(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = "nowhere"


def _external(model: onnx.ModelProto, location: str) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
