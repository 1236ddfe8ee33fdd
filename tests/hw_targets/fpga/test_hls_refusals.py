"""The refusal list (tests/golden/hls_refusals.txt): why a node has no HLS layer, as the user reads it.

After an intended change run `UPDATE_GOLDEN=1 pytest tests/hw_targets/fpga/test_hls_refusals.py` and read the
difference.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hls_graphs import many_readers
from small_graphs import Maker

import tetrasim
from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.stream import streamed
from tetrasim.sim.ir.graph import Array, Graph, Kind, Quant, Role, TensorType, Value

GOLDEN = Path(__file__).parents[2] / "golden" / "hls_refusals.txt"
SOURCES = Path(tetrasim.__file__).parent / "hw_targets" / "fpga" / "hls"
Add = Callable[..., Value]
LAYOUTS = tuple(f"{n}_layout" for n in "qkvo")


def refused_nodes() -> Graph:
    """One node per reason; each has its own inputs, so that no refusal follows from another."""
    m = Maker()
    x = Value("x", TensorType((1, 4, 6)), Role.INPUT)
    ids = Value("ids", TensorType((1, 3), Kind.INT, 64), Role.INPUT)
    heads = Value("heads", TensorType((1, 2, 4, 3)), Role.INPUT)
    flat = Value("flat", TensorType((1, 48)), Role.INPUT)
    mixed = m.op("Reshape", [flat], (2, 2, 4, 3), "two sequences", shape=(2, 2, 4, 3))
    outputs: list[Value] = []

    def add(op: str, inputs: list[Value], shape: tuple[int, ...], name: str, **attrs: object) -> Value:
        outputs.append(m.op(op, inputs, shape, name, **attrs))
        return outputs[-1]

    _products(m, x, add)
    add("CumSum", [x, m.weight(1)], (1, 4, 6), "running sum")
    add("Gather", [x, ids], (1, 3, 6), "run-time gather", axis=1)
    add("Gather", [m.weight(5, 2, 2), ids], (1, 3, 2, 2), "table of matrices", axis=0)
    add("Gather", [_zeros("words", 70_000, 1), ids], (1, 3, 1), "large table", axis=0)
    add("Div", [x, x], (1, 4, 6), "run-time ratio")
    add("Attention", [heads] * 3, (1, 2, 4, 3), "capped", softcap=30.0)
    add("Attention", [heads] * 4, (1, 2, 4, 3), "run-time mask")
    twice = _zeros("mask of two", 2, 1, 4, 4)
    add("Attention", [mixed] * 3, (2, 2, 4, 3), "batch between heads", **dict.fromkeys(LAYOUTS, "hbsd"))
    add("Attention", [heads, heads, heads, twice], (1, 2, 4, 3), "batch of masks")
    add("LogSoftmax", [x], (1, 4, 6), "log of columns", axis=1)
    add("LayerNormalization", [x, m.weight(4)], (1, 4, 6), "norm of columns", axis=1)
    add("BatchNormalization", [heads, *[x] * 4], (1, 2, 4, 3), "run-time statistics")
    add("InstanceNormalization", [heads, x, x], (1, 2, 4, 3), "run-time scale", epsilon=1e-5)
    add("Conv", [heads, heads], (1, 1, 1, 1), "run-time filters")
    add("Elu", [x], (1, 4, 6), "steep", alpha=2.0)
    add("PRelu", [m.weight(6), x], (1, 4, 6), "constant with a slope")
    add("PRelu", [x, x], (1, 4, 6), "run-time slope")
    add("Max", [x, x, x], (1, 4, 6), "largest of three")
    add("Pow", [x, m.weight(1)], (1, 4, 6), "odd power")
    add("Where", [x, x, x], (1, 4, 6), "run-time choice")
    _integers(m, x, add, outputs)
    return Graph("refused", tuple(m.nodes), (x, ids, heads, flat), tuple(outputs))


def _zeros(name: str, *shape: int) -> Value:
    return Value(name, TensorType(shape), Role.WEIGHT, Array(np.zeros(shape, np.float32)))


def _products(m: Maker, x: Value, add: Add) -> None:
    empty = Value("empty", TensorType((6, 2)), Role.WEIGHT)
    uneven = Quant(tuple(0.1 * (i + 1) for i in range(6)), (0,) * 6, 0)
    kind = TensorType((6, 2), Kind.INT, 8, uneven)
    steps = Value("steps", kind, Role.WEIGHT, Array(np.ones((6, 2), np.float32)))
    add("MatMul", [x, empty], (1, 4, 2), "no numbers")
    add("MatMul", [x, steps], (1, 4, 2), "scales of rows")
    add("Gemm", [x, x], (4, 4), "run-time weights")
    for equation, weight, name in (
        ("aab,bc->ac", (6, 2), "repeated"),
        ("abc,cd->abe", (6, 2), "unknown index"),
        ("abc,cd->abd", (5, 2), "sizes"),
        ("abc,de->abd", (6, 2), "lost index"),
        ("abc,bcd->abd", (4, 6, 2), "weight per row"),
    ):
        add("Einsum", [x, m.weight(*weight)], (1, 4, 2), name, equation=equation)


def _integers(m: Maker, x: Value, add: Add, outputs: list[Value]) -> None:
    kind = TensorType((1, 4, 6), Kind.INT, 8)
    for name, scale in (("integers out", 0.1), ("two scales", (0.1, 0.2))):
        made = m.op("QuantizeLinear", [x, _number(f"{name}.s", scale), _number("z", 0)], kind.shape, name)
        if name == "two scales":
            made = m.op(
                "DequantizeLinear", [made, _number("s2", scale), _number("z2", 0)], kind.shape, "back"
            )
        outputs.append(made)
    quantised = m.op("QuantizeLinear", [x, _number("s", 0.1), _number("z", 0)], kind.shape, "first")
    add("DequantizeLinear", [quantised, _number("t", 0.3), _number("u", 0)], kind.shape, "another scale")


def _number(name: str, value: object) -> Value:
    data = np.asarray(value, np.float32)
    return Value(name, TensorType(data.shape), Role.CONSTANT, Array(data))


def refusals() -> str:
    """All texts, one after the other."""
    m = Maker()
    two = Value("pair", TensorType((2, 4)), Role.INPUT)
    result = m.op("Relu", [two], (2, 4), "relu")
    said = []
    for make in (
        lambda: convert(refused_nodes()),
        lambda: convert(Graph("batch", tuple(m.nodes), (two,), (result,))),
        lambda: streamed(convert(many_readers())),
        lambda: HlsOptions(strategy="distributed_arithmetic", reuse=2).check(),
        lambda: HlsOptions(bits=40).check(),
    ):
        with pytest.raises(UserError) as failure:
            make()
        said.append(f"error: {failure.value}\n")
    return "\n".join(said)


def test_the_refusal_list_is_what_users_read() -> None:
    text = refusals()
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_every_reason_in_the_sources_is_on_the_list() -> None:
    listed = GOLDEN.read_text(encoding="utf-8")
    missing = [r for file in SOURCES.glob("*.py") for r in _reasons(file) if not all(p in listed for p in r)]
    assert not missing


def _reasons(file: Path) -> list[list[str]]:
    """The constant parts of every `raise RefusalError(...)`."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "RefusalError":
            texts = [
                c.value for c in ast.walk(call) if isinstance(c, ast.Constant) and isinstance(c.value, str)
            ]
            found.append([t for t in texts if len(t) > 6])
    return found
