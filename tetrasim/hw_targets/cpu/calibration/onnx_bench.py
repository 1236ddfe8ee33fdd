"""Small ONNX models run in onnxruntime, timed without the cost of starting a run.

A kernel's time is that of a model with the op minus that of a model without: the slope over a chain of the
same op gives the cost per node, the intercept the cost per run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.onnx_runtime import library, open_session, session_options

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort
    from numpy.typing import NDArray

OPSET = 20
CONTRIB = ("SkipLayerNormalization",)  # fused by onnxruntime, not part of ONNX
IR_VERSION = 10


@dataclass(frozen=True)
class OpCase:
    """One op on arrays: `constant` names the inputs that are initialisers; attributes as ONNX has them."""

    op: str
    inputs: tuple[tuple[str, NDArray[np.generic]], ...]
    constant: frozenset[str] = frozenset()
    attributes: Mapping[str, int | float | str | Sequence[int]] = field(default_factory=dict)
    outputs: int = 1


def op_model(case: OpCase) -> onnx.ModelProto:
    """A model of one node."""
    from onnx import helper

    names = [name for name, _ in case.inputs]
    outs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, names, outs, domain="com.microsoft" if case.op in CONTRIB else "")
    node.attribute.extend(helper.make_attribute(k, v) for k, v in case.attributes.items())
    return _model([node], case.inputs, case.constant, outs)


def chain_model(length: int, elements: int) -> onnx.ModelProto:
    """`length` additions, each of the last two results: nothing that onnxruntime could merge."""
    from onnx import helper

    x = np.ones(elements, np.float32)
    nodes = [
        helper.make_node("Add", [f"x{i}", f"x{i - 1}" if i else "x0"], [f"x{i + 1}"]) for i in range(length)
    ]
    return _model(nodes, (("x0", x),), frozenset(), [f"x{length}"])


def wide_model(values: int) -> onnx.ModelProto:
    """`values` inputs, each with an output of its own."""
    from onnx import helper

    x = np.ones(4, np.float32)
    ins = tuple((f"x{i}", x) for i in range(values))
    nodes = [helper.make_node("Add", [f"x{i}", f"x{i}"], [f"y{i}"]) for i in range(values)]
    return _model(nodes, ins, frozenset(), [f"y{i}" for i in range(values)])


def chain_of(op: str, x: NDArray[np.float32], weights: Sequence[NDArray[np.float32]]) -> onnx.ModelProto:
    """`op` applied to `x` (any number of rows) and each of the constant `weights` in turn."""
    from onnx import helper

    names = [f"w{i}" for i in range(len(weights))]
    nodes = [helper.make_node(op, [f"x{i}" if i else "x", w], [f"x{i + 1}"]) for i, w in enumerate(names)]
    held = tuple(zip(names, weights, strict=True))
    model = _model(nodes, (("x", x), *held), frozenset(names), [f"x{len(weights)}"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, NDArray[np.generic]]],
    constant: frozenset[str],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    from onnx import helper, numpy_helper

    fed = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs
        if n not in constant
    ]
    out = [helper.make_empty_tensor_value_info(name) for name in outputs]
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in inputs if n in constant]
    graph = helper.make_graph(list(nodes), "bench", fed, out, held)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=IR_VERSION,
    )
    import onnx

    return onnx.shape_inference.infer_shapes(model)


def session(model: bytes | str, threads: int) -> ort.InferenceSession:
    """A CPU session of `threads` threads that runs node after node; warnings are off."""
    return open_session(model, session_options(threads, as_written=False))


def bound_run(
    case_inputs: Sequence[tuple[str, NDArray[np.generic]]], model: onnx.ModelProto, threads: int
) -> Callable[[], object]:
    """A run with inputs bound once and outputs kept in onnxruntime's arena."""
    ort = library()
    made = session(model.SerializeToString(), threads)
    binding = made.io_binding()
    names = {i.name for i in made.get_inputs()}
    for name, array in case_inputs:
        if name in names:
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)))
    for output in made.get_outputs():
        binding.bind_output(output.name)

    def run() -> None:
        made.run_with_iobinding(binding)

    return run
