"""The stand-in for an ONNX op without semantics here, which an import makes only with `--allow-unmodelled`.

It costs nothing on every target, as a view does, and is therefore counted as missing in every coverage and
named in every headline. Its output types are those that the file states; nothing can be computed from it.
"""

from __future__ import annotations

from collections.abc import Iterable

from tetrasim.errors import UnsupportedOpError
from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import Arr, Arrays, Attrs, OpDef, ShapeError, Types, str_attr, view_work

UNMODELLED = "Unmodelled"


def original_op(node: Node) -> str:
    """The op as the file spells it, with its domain: `my.ops::Mystery`."""
    domain = str_attr(node.attrs, "domain")
    op = str_attr(node.attrs, "op_type")
    return f"{domain}::{op}" if domain else op


def unmodelled_nodes(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Those of `nodes` that stand for an op without semantics here."""
    return tuple(node for node in nodes if node.op == UNMODELLED)


def _infer(_types: Types, _attrs: Attrs) -> tuple[TensorType, ...]:
    raise ShapeError("the types of its results are known from the file only")


def _reference(_arrays: Arrays, attrs: Attrs, _arithmetic: Arithmetic) -> tuple[Arr, ...]:
    raise UnsupportedOpError(
        f"op '{str_attr(attrs, 'op_type')}' has no semantics here: nothing can be computed from it",
        hint="export with standard ONNX ops",
    )


OPS = {UNMODELLED: OpDef(_infer, _reference, view_work)}
