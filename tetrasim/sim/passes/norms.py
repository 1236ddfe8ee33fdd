"""Pass `norms`: layer normalisation and RMS normalisation from their parts.

What: (x - mean) / sqrt(var + eps) [* gamma] [+ beta] -> LayerNormalization, and x / sqrt(mean(x^2) + eps)
[* gamma] -> RMSNormalization, in any of the spellings of division. Why: one pass over the row instead of
seven over the tensor. When illegal: an interior value is read elsewhere, or the mean is not over trailing
axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from tetrasim.sim.ir.graph import Attr, Graph, Node, Value
from tetrasim.sim.ops.opdef import ints_attr
from tetrasim.sim.passes.contract import (
    Match,
    Miss,
    Outcome,
    Pass,
    fused,
    is_parameter,
    other,
    rewrite,
    scalar,
)


class _Scaled:
    """x * 1/sqrt(inside): the factored form of a division by a deviation."""

    def __init__(self, x: Value, inside: Value, parts: list[Node]) -> None:
        self.x, self.inside, self.parts = x, inside, parts


def _by_deviation(match: Match, node: Node) -> _Scaled | None:
    """Match x / sqrt(v), x * (1 / sqrt(v)), x * v^-0.5."""
    if node.op == "Div":
        root = match.producer(node.inputs[1], "Sqrt")
        x, inside = node.inputs[0], root.inputs[0] if root else None
        return _Scaled(x, inside, [node, root]) if root and x is not None and inside is not None else None
    if node.op != "Mul":
        return None
    for value in node.inputs:
        if value is None:
            continue
        x = other(node, value)
        inverse = match.producer(value, "Reciprocal", "Div", "Pow")
        if inverse is None or x is None:
            continue
        if inverse.op == "Pow":
            if scalar(inverse.inputs[1]) == -0.5 and inverse.inputs[0] is not None:
                return _Scaled(x, inverse.inputs[0], [node, inverse])
            continue
        if inverse.op == "Div" and scalar(inverse.inputs[0]) != 1.0:
            continue
        root = match.producer(inverse.inputs[-1], "Sqrt")
        if root is not None and root.inputs[0] is not None:
            return _Scaled(x, root.inputs[0], [node, inverse, root])
    return None


def _plus_epsilon(match: Match, value: Value) -> tuple[Value, float, Node] | None:
    """Match v + eps."""
    add = match.producer(value, "Add")
    for candidate in add.inputs if add else ():
        if candidate is None or add is None:
            continue
        rest = other(add, candidate)
        eps = scalar(rest)
        if eps is not None:
            return candidate, eps, add
    return None


def _mean_square(match: Match, value: Value) -> tuple[Value, Node, list[Node]] | None:
    """Match ReduceMean(y^2): y, the ReduceMean, the nodes."""
    mean = match.producer(value, "ReduceMean")
    if mean is None:
        return None
    square = match.producer(mean.inputs[0], "Mul", "Pow")
    if square is None or square.inputs[0] is None:
        return None
    is_square = (
        scalar(square.inputs[1]) == 2.0 if square.op == "Pow" else square.inputs[0] is square.inputs[1]
    )
    return (square.inputs[0], mean, [mean, square]) if is_square else None


def _first_axis(mean: Node) -> int:
    """The attribute `axis` of a normalisation over the reduced axes.

    Raises:
        Miss: the axes are not the last ones.
    """
    source = mean.inputs[0]
    assert source is not None
    rank = len(source.type.shape)
    axes = sorted(a % rank for a in ints_attr(mean.attrs, "axes", tuple(range(rank))))
    if axes != list(range(axes[0], rank)) or not mean.attrs.get("keepdims", 1):
        raise Miss(f"the mean is over axes {axes} of {rank}, a normalisation is over the last ones")
    return axes[0] - rank


def _affine(match: Match, core: Node) -> tuple[Node, Value | None, Value | None, list[Node]]:
    """Follow * gamma and + beta; the last node, the parameters, the nodes in between."""
    end, gamma, beta = core, None, None
    parts: list[Node] = []
    columns = core.outputs[0].type.shape[-1:]
    scale = match.only_consumer(end.outputs[0], "Mul")
    if scale is not None:
        found = other(scale, end.outputs[0])
        if is_parameter(found) and found is not None and found.type.shape == columns:
            parts.append(end)
            end, gamma = scale, found
    shift = match.only_consumer(end.outputs[0], "Add")
    if shift is not None:
        found = other(shift, end.outputs[0])
        if is_parameter(found) and found is not None and found.type.shape == columns:
            parts.append(end)
            end, beta = shift, found
    return end, gamma, beta, parts


def _core(match: Match, node: Node) -> tuple[str, Value, int, float, list[Node]] | None:
    """A normalisation without its affine part: op, x, axis, epsilon, nodes."""
    scaled = _by_deviation(match, node)
    if scaled is None:
        return None
    with_eps = _plus_epsilon(match, scaled.inside)
    if with_eps is None:
        return None
    square = _mean_square(match, with_eps[0])
    if square is None:
        return None
    y, mean, square_parts = square
    parts = [*scaled.parts, with_eps[2], *square_parts]
    if y is not scaled.x:
        return None
    axis = _first_axis(mean)
    centred = match.producer(y, "Sub")
    if centred is not None and centred.inputs[0] is not None:
        average = match.producer(centred.inputs[1], "ReduceMean")
        if average is not None and average.inputs[0] is centred.inputs[0]:
            if _first_axis(average) != axis:
                raise Miss("mean and variance are over different axes")
            return "LayerNormalization", centred.inputs[0], axis, with_eps[1], [*parts, centred, average]
    return "RMSNormalization", scaled.x, axis, with_eps[1], parts


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    """The rule looks at the last node of the chain, so that the affine part is included."""
    for core in _candidates(match, node):
        found = _core(match, core)
        if found is None:
            continue
        op, x, axis, eps, parts = found
        end, gamma, beta, middle = _affine(match, core)
        if end is not node:
            continue
        inside = {v for p in parts if p is not core for v in p.outputs}
        for value in inside:
            if any(user not in parts for user in match.consumers(value)):
                raise Miss(f"'{value.name}' inside the normalisation is also read elsewhere")
        if op == "RMSNormalization" and beta is not None:
            return None
        attrs: dict[str, Attr] = {"axis": axis, "epsilon": eps}
        return (fused(node, op, (x, gamma, beta), attrs, [*parts, *middle]),)
    return None


def _candidates(match: Match, node: Node) -> list[Node]:
    """Nodes that may be the core when `node` is the last of the chain: itself, or up to two steps before."""
    out = [node] if node.op in ("Mul", "Div") else []
    if node.op in ("Mul", "Add"):
        for value in node.inputs:
            before = match.producer(value, "Mul", "Div")
            if before is None:
                continue
            out.append(before)
            if node.op == "Add":
                out += [p for v in before.inputs if (p := match.producer(v, "Mul", "Div")) is not None]
    return out


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    return rewrite(graph, "norms", _rule)


PASS = Pass("norms", run, "normalisations over trailing axes are one node")
