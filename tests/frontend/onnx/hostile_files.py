"""ONNX files of a few kilobytes that ask for more than any machine has; as a module, reads them all."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, INT, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Array = np.ndarray
HUGE = 10**12
MEMORY_BYTES = 6 << 30


def _value(name: str, type: int = F, shape: list[int | str] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type, [1, 16] if shape is None else shape)


def _node(op: str, inputs: list[str], outputs: list[str], **attrs: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=f"n_{outputs[0]}", **attrs)


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Array] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
    inputs: list[onnx.ValueInfoProto] | None = None,
) -> onnx.ModelProto:
    given = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs or [_value("x")], [_value("y", F, ["a", "b"])], given)
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10, functions=functions or [])


def _body(nodes: list[onnx.NodeProto], out: str, depth: int = 0) -> onnx.GraphProto:
    inputs = [_value(f"i{depth}", INT, []), _value(f"c{depth}", B, []), _value(f"a{depth}")]
    return helper.make_graph(nodes, "b", inputs, [_value(f"c{depth}", B, []), _value(out)])


def loop(trips: int, nodes: list[onnx.NodeProto], out: str) -> onnx.ModelProto:
    call = _node("Loop", ["n", "t", "x"], ["y"], body=_body(nodes, out))
    return _model([call], {"n": np.array(trips), "t": np.array(True)})


def endless_loop() -> onnx.ModelProto:
    """No trip count, and a condition that stays true."""
    call = _node("Loop", ["", "t", "x"], ["y"], body=_body([_node("Identity", ["a0"], ["q0"])], "q0"))
    return _model([call], {"t": np.array(True)})


def nested_loops(depth: int, trips: int) -> onnx.ModelProto:
    body = _body([_node("Identity", ["a0"], ["q0"])], "q0")
    for k in range(1, depth):
        body = _body([_node("Loop", ["n", "t", f"a{k}"], [f"q{k}"], body=body)], f"q{k}", k)
    call = _node("Loop", ["n", "t", "x"], ["y"], body=body)
    return _model([call], {"n": np.array(trips), "t": np.array(True)})


def scan(steps: int) -> onnx.ModelProto:
    body = helper.make_graph(
        [_node("Add", ["s", "e"], ["o"])], "b", [_value("s"), _value("e")], [_value("o")]
    )
    call = _node("Scan", ["x", "z"], ["y"], body=body, num_scan_inputs=1)
    return _model([call], inputs=[_value("x"), _value("z", F, [steps, 1, 16])])


def functions(depth: int, calls: int, *, circle: bool = False) -> onnx.ModelProto:
    """Each function calls the next `calls` times."""
    made = []
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("my", 1)]
    for k in range(depth):
        name = f"F{(k + 1) % depth}" if circle or k + 1 < depth else "Relu"
        domain = "my" if name.startswith("F") else ""
        names = ["a", *(f"t{i}" for i in range(calls))]
        nodes = [helper.make_node(name, [p], [q], domain=domain) for p, q in itertools.pairwise(names)]
        made.append(helper.make_function("my", f"F{k}", ["a"], [names[-1]], nodes, domains))
    return _model([helper.make_node("F0", ["x"], ["y"], domain="my", name="call")], functions=made)


def summed(op: str, inputs: list[str], constants: dict[str, Array], **attrs: object) -> onnx.ModelProto:
    """x plus the sum of what an op of constants makes."""
    nodes = [
        _node(op, inputs, ["big"], **attrs),
        _node("Cast", ["big"], ["real"], to=F),
        _node("ReduceSum", ["real"], ["r"], keepdims=0),
        _node("Add", ["x", "r"], ["y"]),
    ]
    return _model(nodes, constants)


def doubled(op: str, times: int) -> onnx.ModelProto:
    """x joined to itself again and again."""
    names = ["x", *(f"v{i}" for i in range(times - 1)), "y"]
    extra: dict[str, object] = {"axis": 0} if op == "Concat" else {}
    nodes = [
        _node(op, [a, a] if op == "Concat" else [a, "two"], [b], **extra)
        for a, b in itertools.pairwise(names)
    ]
    return _model(nodes, {"two": np.array([2, 2])})


def _ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "loop without nodes": lambda: loop(HUGE, [], "a0"),
    "loop of one node": lambda: loop(HUGE, [_node("Relu", ["a0"], ["q0"])], "q0"),
    "loop of 2^63 - 1 turns": lambda: loop(2**63 - 1, [], "a0"),
    "endless loop": endless_loop,
    "nested loops": lambda: nested_loops(3, 1000),
    "deep loops": lambda: nested_loops(20, 4),
    "scan": lambda: scan(HUGE),
    "functions that double": lambda: functions(24, 2),
    "functions that multiply by ten": lambda: functions(8, 10),
    "functions in a circle": lambda: functions(2, 1, circle=True),
    "function of itself": lambda: functions(1, 1, circle=True),
    "functions 500 deep": lambda: functions(500, 1),
    "ConstantOfShape": lambda: summed("ConstantOfShape", ["s"], {"s": np.array([100_000, 100_000])}),
    "ConstantOfShape beyond 2^63": lambda: summed("ConstantOfShape", ["s"], {"s": np.array([2**40, 2**40])}),
    "Expand": lambda: summed("Expand", ["v", "s"], {"v": _ones(1), "s": np.array([100_000, 100_000])}),
    "Range": lambda: summed(
        "Range", ["s", "e", "d"], {"s": np.array(0), "e": np.array(HUGE), "d": np.array(1)}
    ),
    "Range of NaN": lambda: summed(
        "Range",
        ["s", "e", "d"],
        {k: np.array(v, np.float32) for k, v in zip("sed", (0, np.nan, 1), strict=True)},
    ),
    "Tile": lambda: summed("Tile", ["v", "s"], {"v": _ones(2, 2), "s": np.array([10**5, 10**5])}),
    "Pad": lambda: summed("Pad", ["v", "s"], {"v": _ones(2, 2), "s": np.array([0, 0, 10**5, 10**5])}),
    "Pad of -10^12": lambda: summed("Pad", ["v", "s"], {"v": _ones(2, 2), "s": np.array([-HUGE, 0, 0, 0])}),
    "Resize": lambda: summed(
        "Resize",
        ["v", "", "", "s"],
        {"v": _ones(1, 1, 2, 2), "s": np.array([1, 1, 10**5, 10**5])},
        mode="nearest",
    ),
    "OneHot": lambda: summed(
        "OneHot",
        ["v", "d", "w"],
        {"v": np.zeros(10, np.int64), "d": np.array(HUGE), "w": np.array([0.0, 1.0])},
    ),
    "EyeLike": lambda: _model(
        [
            _node("ConstantOfShape", ["s"], ["c"]),
            _node("EyeLike", ["c"], ["e"], dtype=F),
            _node("ReduceSum", ["e"], ["r"], keepdims=0),
            _node("Add", ["x", "r"], ["y"]),
        ],
        {"s": np.array([10**6, 10**6])},
    ),
    "Concat doubled 60 times": lambda: doubled("Concat", 60),
    "Concat doubled 30 times": lambda: doubled("Concat", 30),
    "Tile doubled 40 times": lambda: doubled("Tile", 40),
    "input of 10^15 rows": lambda: _model(
        [_node("Relu", ["x"], ["y"])], inputs=[_value("x", F, [10**15, 16])]
    ),
    "input of 2^62 rows": lambda: _model([_node("Relu", ["x"], ["y"])], inputs=[_value("x", F, [2**62, 16])]),
    "attention over 10^9 tokens": lambda: _model(
        [
            _node("MatMul", ["x", "z"], ["s"]),
            _node("Softmax", ["s"], ["p"]),
            _node("MatMul", ["p", "x"], ["y"]),
        ],
        inputs=[_value("x", F, [10**9, 16]), _value("z", F, [16, 10**9])],
    ),
    "RNN of 10^7 steps": lambda: _model(
        [_node("RNN", ["x", "w", "r"], ["", "y"], hidden_size=4)],
        {"w": _ones(1, 4, 16), "r": _ones(1, 4, 4)},
        inputs=[_value("x", F, [10**7, 1, 16])],
    ),
    "50,000 nodes": lambda: _model(
        [_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}" if i < 49_999 else "y"]) for i in range(50_000)]
    ),
    "a name of 10 MB": lambda: _model([helper.make_node("Relu", ["x"], ["y"], name="n" * 10_000_000)]),
}


def main() -> None:
    """Import every file of argv under a memory limit; a line each: name, seconds, what became of it."""
    from tetrasim.errors import UserError
    from tetrasim.frontend.onnx import import_onnx

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    folder = Path(sys.argv[1])
    for name, make in FILES.items():
        file = folder / "hostile.onnx"
        file.write_bytes(make().SerializeToString())
        began = time.process_time()
        try:
            graph = import_onnx(file)
            read = {v for node in graph.nodes for v in node.inputs if v is not None and v.data is not None}
            for value in read:
                assert value.data is not None
                value.data.load()
            said = "ok"
        except UserError as refusal:
            said = f"refused: {str(refusal)[:300]}"
        except BaseException as defect:
            said = f"defect: {type(defect).__name__}: {str(defect)[:200]}"
        sys.stdout.write(f"{name}\t{time.process_time() - began:.2f}\t{said!r}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
