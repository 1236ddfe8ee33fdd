"""Types that a file states for its values: all that is known of what an op without semantics here gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tetrasim.errors import UserError
from tetrasim.frontend.onnx.dims import evaluate
from tetrasim.frontend.onnx.element_types import onnx_type

if TYPE_CHECKING:
    import onnx

    from tetrasim.sim.ir.graph import TensorType


def stated_types(
    graph: onnx.GraphProto | onnx.FunctionProto, names: Sequence[str], dims: Mapping[str, int]
) -> tuple[TensorType, ...]:
    """The types of `names` by the graph's value_info and outputs, with `dims` bound.

    Raises:
        UserError: one that the file does not state, or states with a dim that is not bound.
    """
    # a function's outputs are names alone
    outputs = [proto for proto in graph.output if not isinstance(proto, str)]
    found = {proto.name: proto for proto in (*graph.value_info, *outputs) if proto.name in names}
    return tuple(_type(name, found.get(name), dims) for name in names)


def _type(name: str, proto: onnx.ValueInfoProto | None, dims: Mapping[str, int]) -> TensorType:
    tensor = None if proto is None else proto.type.tensor_type
    if tensor is None or not tensor.elem_type or not tensor.HasField("shape"):
        raise UserError(
            f"the file does not state the type and shape of '{name}'",
            hint="write it into the file's value_info (onnx.helper.make_tensor_value_info)",
        )
    shape = []
    for dim in tensor.shape.dim:
        size = dim.dim_value if dim.HasField("dim_value") else evaluate(dim.dim_param, dims)
        if size is None or size < 0:
            known = ", ".join(dims) or "none"
            raise UserError(
                f"the file gives '{name}' a dim '{dim.dim_param or '?'}' that is no number",
                hint=f"state it with numbers and the dims of the inputs ({known})",
            )
        shape.append(int(size))
    return onnx_type(tensor.elem_type, tuple(shape))
