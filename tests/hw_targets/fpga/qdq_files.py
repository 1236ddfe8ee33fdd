"""Quantised ONNX files (QDQ format), written node by node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Scale = float | Sequence[float]


class Writer:
    """Nodes and constants so far; names are those of the results."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: object) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def grid(self, x: str, name: str, scale: float, zero: int = 0, kind: type = np.int8) -> str:
        """QuantizeLinear and DequantizeLinear."""
        pair = [self.constant(f"{name}.s", np.float32(scale)), self.constant(f"{name}.z", kind(zero))]
        return self.op("DequantizeLinear", [self.op("QuantizeLinear", [x, *pair], f"{name}.q"), *pair], name)

    def weight(self, name: str, shape: tuple[int, ...], scale: Scale, kind: type = np.int8) -> str:
        """Integers and their DequantizeLinear, per column where `scale` has several."""
        self.constant(f"{name}.q", self.rng.integers(-128, 128, shape).astype(kind))
        self.constant(f"{name}.s", np.asarray(scale, np.float32))
        self.constant(f"{name}.z", np.zeros(np.shape(scale), kind))
        return self.op("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], name, axis=len(shape) - 1)

    def save(self, path: Path, shape: tuple[int, ...], classes: int, kind: int = TensorProto.FLOAT) -> Path:
        """With input x and output y."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info("y", kind, (1, classes))
        graph = helper.make_graph(self.nodes, "quantised", [x], [y], self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        return path


def qdq_mlp(
    path: Path, *, scale: float = 2.0**-4, zero: int = 0, weight_scale: float = 2.0**-6, out: float = 0.25
) -> Path:
    """4-6-3; the second product has a scale per column, the output is quantised."""
    w = Writer()
    x = w.grid("x", "given", scale, zero)
    bias = w.weight("b1", (6,), scale * weight_scale, np.int32)
    h = w.op("Gemm", [x, w.weight("w1", (4, 6), weight_scale), bias], "first")
    h = w.grid(w.op("Relu", [h], "relu"), "hidden", 2.0**-4, 0, np.uint8)
    h = w.op("MatMul", [h, w.weight("w2", (6, 3), [2.0**-6, 2.0**-7, 2.0**-5])], "second")
    w.grid(h, "y", out)
    return w.save(path, (1, 4), 3)


def qdq_cnn(path: Path, *, per_channel: bool) -> Path:
    """Convolution, ReLU, maximum pooling, convolution, dense: asymmetric activations, scales of no form."""
    w = Writer()
    x = w.grid("x", "given", 0.0287, 6)
    first = [0.0026 * (1 + i / 3) for i in range(4)] if per_channel else 0.0031
    bias = w.constant("b1", w.rng.normal(size=4).astype(np.float32))
    y = w.op("Conv", [x, _filters(w, "w1", (4, 1, 3, 3), first), bias], "conv1", pads=[1, 1, 1, 1])
    y = w.grid(w.op("Relu", [y], "relu1"), "hidden", 0.0107, -128)
    y = w.op("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = w.op("Conv", [w.grid(y, "pooled", 0.0107, -128), _filters(w, "w2", (6, 4, 3, 3), 0.0043)], "conv2")
    y = w.op("Flatten", [w.grid(y, "seen", 0.041, 11)], "flat")
    y = w.op("MatMul", [y, w.weight("w3", (24, 5), [0.002, 0.003, 0.0017, 0.0041, 0.0023])], "head")
    w.grid(y, "y", 0.37, 3)
    return w.save(path, (1, 1, 8, 8), 5)


def _filters(w: Writer, name: str, shape: tuple[int, ...], scale: Scale) -> str:
    """Integer filters, with a scale per output channel where `scale` has several."""
    w.constant(f"{name}.q", w.rng.integers(-128, 128, shape).astype(np.int8))
    w.constant(f"{name}.s", np.asarray(scale, np.float32))
    w.constant(f"{name}.z", np.zeros(np.shape(scale), np.int8))
    return w.op("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], name, axis=0)


def qdq_encoder(path: Path, tokens: int = 6, width: int = 8, heads: int = 2) -> Path:
    """One encoder block and a classifier, every tensor between nodes on an int8 or uint8 grid."""
    w = Writer()
    x = w.grid("x", "given", 2.0**-5)
    q, k, v = (_heads(w, x, n, tokens, width, heads) for n in "qkv")
    k = w.op("Transpose", [k], "k.t", perm=[0, 1, 3, 2])
    s = w.grid(w.op("MatMul", [q, k], "scores"), "scores.g", 2.0**-4)
    p = w.grid(w.op("Softmax", [s], "rows", axis=-1), "rows.g", 2.0**-8, 0, np.uint8)
    a = w.grid(w.op("MatMul", [p, v], "mixed"), "mixed.g", 2.0**-5)
    a = w.op("Transpose", [a], "back", perm=[0, 2, 1, 3])
    a = w.op("Reshape", [a, w.constant("flat", np.array([1, tokens, width]))], "joined")
    a = w.grid(w.op("MatMul", [a, w.weight("wo", (width, width), 2.0**-8)], "out"), "out.g", 2.0**-5)
    x = w.grid(w.op("Add", [x, a], "residual"), "residual.g", 2.0**-4)
    ones = w.constant("ones", np.ones(width, np.float32)), w.constant("zeros", np.zeros(width, np.float32))
    x = w.grid(w.op("LayerNormalization", [x, *ones], "norm", axis=-1), "norm.g", 2.0**-5)
    h = w.op("Relu", [w.op("MatMul", [x, w.weight("wu", (width, 16), 2.0**-8)], "up")], "relu")
    h = w.grid(h, "up.g", 2.0**-5, 0, np.uint8)
    h = w.grid(w.op("MatMul", [h, w.weight("wd", (16, width), 2.0**-8)], "down"), "down.g", 2.0**-5)
    x = w.grid(w.op("Add", [x, h], "residual2"), "residual2.g", 2.0**-4)
    x = w.op("ReduceMean", [x, w.constant("axes", np.array([1]))], "pool", keepdims=0)
    x = w.grid(x, "pool.g", 2.0**-5)
    w.grid(w.op("MatMul", [x, w.weight("wh", (width, 5), 2.0**-7)], "head"), "y", 2.0**-4)
    return w.save(path, (1, tokens, width), 5)


def _heads(w: Writer, x: str, name: str, tokens: int, width: int, heads: int) -> str:
    y = w.op("MatMul", [x, w.weight(f"w{name}", (width, width), 2.0**-8)], f"{name}.m")
    shape = w.constant(f"{name}.shape", np.array([1, tokens, heads, width // heads]))
    y = w.op("Reshape", [w.grid(y, f"{name}.g", 2.0**-5), shape], f"{name}.r")
    return w.op("Transpose", [y], f"{name}.heads", perm=[0, 2, 1, 3])
