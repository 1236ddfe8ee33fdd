"""Functions of ONNX: bodies that take the place of calls.

Model-local functions are inlined when a file is read. Operators of the standard that `sim/ops/` does not
know, but that the `onnx` package defines by a body of other operators (AffineGrid, CenterCropPad, the losses,
the windows, …), are expanded where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tetrasim.errors import UserError
from tetrasim.frontend.onnx.bounds import check_functions

if TYPE_CHECKING:
    import onnx

    from tetrasim.sim.ir.graph import TensorType


def inlined(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """`model` without local functions.

    Raises:
        UserError: a function is recursive, or does not fit its calls.
    """
    if not model.functions:
        return model
    check_functions(model, where)
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:  # onnx's own types are subclasses of either, by version
        raise UserError(f"its local functions cannot be inlined: {error}", where=where) from error


def has_body(op: str, domain: str = "", opset: int | None = None) -> bool:
    """True when the standard defines `op` by other operators."""
    schema = _schema(op, domain, opset)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def _schema(op: str, domain: str, opset: int | None) -> Any:
    """The schema of an operator, None when there is none (the stubs of `onnx` lack its functions)."""
    from onnx import defs

    try:
        return defs.get_schema(op, defs.onnx_opset_version() if opset is None else opset, domain)
    except defs.SchemaError:
        return None


def expansion(
    node: onnx.NodeProto, opset: int, types: Sequence[TensorType | None]
) -> onnx.FunctionProto | None:
    """The body of a standard operator, with the node's attributes filled in; None: it has none."""
    import onnx

    schema = _schema(node.op_type, node.domain, opset)
    if schema is None:
        return None
    body = onnx.FunctionProto()
    if schema.has_function:
        body.CopyFrom(schema.function_body)
    elif schema.has_context_dependent_function:
        version = schema.context_dependent_function_opset_versions[-1]
        given = [_type_bytes(t) for t in types]
        text = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), given
        )
        if not text:
            return None
        body.ParseFromString(text)
    else:
        return None
    return _with_attributes(body, node, schema)


def _type_bytes(type: TensorType | None) -> bytes:
    from onnx import helper

    from tetrasim.frontend.onnx.element_types import onnx_code

    if type is None:
        return b""
    return bytes(helper.make_tensor_type_proto(onnx_code(type), type.shape).SerializeToString())


def _with_attributes(body: onnx.FunctionProto, node: onnx.NodeProto, schema: Any) -> onnx.FunctionProto:
    """`body` with references to the operator's attributes replaced by their values, or by the defaults."""
    given = {a.name: a for a in node.attribute}
    defaults = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.name}
    label = node.name or node.op_type
    for inner in body.node:
        inner.name = f"{label}/{inner.name or inner.op_type}"
        kept = []
        for attribute in inner.attribute:
            if attribute.ref_attr_name:
                value = given.get(attribute.ref_attr_name, defaults.get(attribute.ref_attr_name))
                if value is None:
                    continue
                name = attribute.name
                attribute.CopyFrom(value)
                attribute.name = name
            kept.append(attribute)
        copies = [type(a).FromString(a.SerializeToString()) for a in kept]
        del inner.attribute[:]
        inner.attribute.extend(copies)
    return body
