"""ONNX node attributes -> plain values. Element types become names; tensors become scalars or are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.frontend.onnx.element_types import onnx_type
from tetrasim.frontend.onnx.reader import proto_array
from tetrasim.sim.ir.graph import Attr

if TYPE_CHECKING:
    import onnx

_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 5, 6, 7, 8
_TYPE_NAMES = ("to", "dtype", "stash_type", "output_dtype")


def parse_attrs(proto: onnx.NodeProto) -> dict[str, Attr]:
    """Scalar and list attributes of a node; tensors and graphs are read by `tensor_attr` and `subgraphs`.

    Raises:
        UserError: an attribute of a kind ONNX allows but nothing here understands.
    """
    out: dict[str, Attr] = {}
    for attr in proto.attribute:
        if attr.type in (_TENSOR, _GRAPH):
            continue
        out[attr.name] = _plain(attr, proto)
    for name in _TYPE_NAMES:
        code = out.get(name)
        if isinstance(code, int) and code:
            out[name] = onnx_type(code, ()).dtype
    return out


def _plain(attr: Any, proto: onnx.NodeProto) -> Attr:
    if attr.type == _FLOAT:
        return float(attr.f)
    if attr.type == _INT:
        return int(attr.i)
    if attr.type == _STRING:
        return str(attr.s.decode("utf-8", "replace"))
    if attr.type == _INTS:
        return tuple(int(i) for i in attr.ints)
    if attr.type == _FLOATS:
        return tuple(float(f) for f in attr.floats)
    if attr.type == _STRINGS:
        return tuple(s.decode("utf-8", "replace") for s in attr.strings)
    raise UserError(
        f"attribute '{attr.name}' of {proto.op_type} has a kind that is not supported",
        where=f"node '{proto.name}'",
    )


def tensor_attr(proto: onnx.NodeProto, name: str) -> NDArray[Any] | None:
    """A tensor attribute as an array."""
    for attr in proto.attribute:
        if attr.name == name and attr.type == _TENSOR:
            return proto_array(attr.t)
    return None


def tensor_type_code(proto: onnx.NodeProto, name: str) -> int:
    """The ONNX element type of a tensor attribute (float32 when absent, as ConstantOfShape defines)."""
    return next((int(a.t.data_type) for a in proto.attribute if a.name == name), 1)


def subgraphs(proto: onnx.NodeProto) -> dict[str, onnx.GraphProto]:
    """Graph attributes by name."""
    return {a.name: a.g for a in proto.attribute if a.type == _GRAPH}


def constant_array(proto: onnx.NodeProto) -> tuple[NDArray[Any], int]:
    """The numbers of a `Constant` node and their ONNX type code.

    Raises:
        UserError: strings or sparse tensors.
    """
    for attr in proto.attribute:
        if attr.type == _TENSOR:
            return proto_array(attr.t), int(attr.t.data_type)
        if attr.type in (_FLOAT, _FLOATS):
            return np.array(attr.f if attr.type == _FLOAT else list(attr.floats), dtype=np.float32), 1
        if attr.type in (_INT, _INTS):
            return np.array(attr.i if attr.type == _INT else list(attr.ints), dtype=np.int64), 7
    raise UserError("Constant holds no numeric tensor", where=f"node '{proto.name or 'Constant'}'")
