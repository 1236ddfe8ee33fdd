"""Pass `linear`: products with their bias.

What: MatMul(x, W) + b becomes Gemm(x, W, b), and the reshapes that exporters put around a two-dimensional
Gemm vanish (`Gemm` takes any rank here). Why: every GEMM library starts the accumulator at the bias, and a
linear layer is one node for FPGA projects. When illegal: the product has another reader, W is no parameter,
or b is not one vector over the output columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from tetrasim.sim.ir.graph import Attr, Graph, Node, Role, Value
from tetrasim.sim.passes.contract import Match, Outcome, Pass, fused, is_parameter, other, rewrite


def _bias(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op != "Add":
        return None
    for value in node.inputs:
        product = match.producer(value, "MatMul")
        if product is None or value is None:
            continue
        bias = other(node, value)
        if (
            bias is None
            or not _is_column_vector(bias, value.type.shape)
            or not is_parameter(product.inputs[1])
        ):
            continue
        if not match.used_once(value) or value.type.shape != node.outputs[0].type.shape:
            continue
        return (fused(node, "Gemm", (*product.inputs[:2], bias), dict(product.attrs), (product,)),)
    return None


def _is_column_vector(bias: Value, shape: tuple[int, ...]) -> bool:
    return bias.role is Role.WEIGHT and bool(shape) and bias.type.shape == shape[-1:]


def _rank(match: Match, node: Node) -> Sequence[Node] | None:
    """Reshape(Gemm(Reshape(x))) -> Gemm(x) when both reshapes only group leading axes."""
    if node.op != "Reshape":
        return None
    gemm = match.producer(node.inputs[0], "Gemm", "MatMul")
    if gemm is None or gemm.inputs[0] is None or gemm.attrs.get("transA") or not is_parameter(gemm.inputs[1]):
        return None
    before = match.producer(gemm.inputs[0], "Reshape")
    if before is None or before.inputs[0] is None or not match.used_once(gemm.outputs[0]):
        return None
    x = before.inputs[0]
    wanted = node.outputs[0].type.shape
    weight = gemm.inputs[1]
    flat_weight = weight is not None and len(weight.type.shape) == 2
    flat_bias = all(v is None or len(v.type.shape) < 2 for v in gemm.inputs[2:])
    same_columns = x.type.shape[-1:] == gemm.inputs[0].type.shape[-1:]
    same_out = wanted[-1:] == gemm.outputs[0].type.shape[-1:]
    if not (flat_weight and flat_bias and same_columns and same_out and x.type.shape[:-1] == wanted[:-1]):
        return None
    attrs: dict[str, Attr] = dict(gemm.attrs)
    return (fused(node, gemm.op, (x, *gemm.inputs[1:]), attrs, (before, gemm)),)


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    biased = rewrite(graph, "linear", _bias)
    ranked = rewrite(biased.graph, "linear", _rank)
    return Outcome(ranked.graph, biased.changed or ranked.changed, (*biased.notes, *ranked.notes))


PASS = Pass(
    "linear", run, "a bias that can start an accumulator is an input of its product", requires=("views",)
)
