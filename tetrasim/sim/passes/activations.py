"""Pass `activations`: GELU, SiLU and their kin, recognised by value.

What: a group of element-wise nodes that turns one tensor x into f(x) becomes the op that computes f. The
group is evaluated in float64 on sample points and compared with every known f, so that the order of
factors, x^3 or x*x*x, a division by sqrt 2 or a product do not matter. Why: one pass over the tensor instead
of eight. When illegal: an interior value is read elsewhere; or the group computes something unknown, which
is noted when it holds an erf, tanh or sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.ir.graph import Attr, Graph, Node, Value
from tetrasim.sim.passes.contract import Match, Miss, Outcome, Pass, fused, rewrite, scalar

Arr = NDArray[Any]
_BINARY: dict[str, Callable[[Arr, Arr], Arr]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
}
_MAX_NODES = 16
_MAX_OPERANDS = 64
_TELLING = ("Erf", "Tanh", "Sigmoid", "Softplus", "Exp")
# A negative and a positive range, dense near zero; float64 separates the functions by far more than 1e-6
_POINTS = np.concatenate([np.linspace(-9, 9, 91), np.linspace(-1, 1, 37), np.array([1e-3, -1e-3])])
_erf = np.vectorize(math.erf)


def _sigmoid(x: Arr) -> Arr:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


_UNARY: dict[str, Callable[[Arr], Arr]] = {
    "Erf": lambda x: np.asarray(_erf(x)),
    "Tanh": np.tanh,
    "Sigmoid": _sigmoid,
    "Exp": np.exp,
    "Neg": np.negative,
    "Softplus": lambda x: np.asarray(np.logaddexp(0, x)),
    "Reciprocal": lambda x: np.asarray(1 / x),
    "Sqrt": np.sqrt,
    "Relu": lambda x: np.asarray(np.maximum(x, 0)),
}

Known = tuple[str, tuple[tuple[str, Attr], ...], Callable[[Arr], Arr]]
_KNOWN: tuple[Known, ...] = (
    ("Gelu", (("approximate", "none"),), lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2)))),
    (
        "Gelu",
        (("approximate", "tanh"),),
        lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    ("Swish", (), lambda x: x * _sigmoid(x)),
    ("QuickGelu", (("alpha", 1.702),), lambda x: x * _sigmoid(1.702 * x)),
    ("Sigmoid", (), _sigmoid),
    ("Mish", (), lambda x: x * np.tanh(np.logaddexp(0, x))),
    ("Softplus", (), lambda x: np.asarray(np.logaddexp(0, x))),
)

# An expression over one variable: nested tuples (op, operand, …), "x", or a number
Expression = Any


@dataclass
class _Parts:
    """The nodes of an expression by their result, and how many operands it has (shared ones count again)."""

    nodes: dict[Value, Node] = field(default_factory=dict)
    operands: int = 0


def _expression(match: Match, value: Value | None, leaf: Value, parts: _Parts) -> Expression:
    """`value` as an expression in `leaf`; None when it depends on anything else or grows too big."""
    parts.operands += 1
    if value is leaf:
        return "x"
    number = scalar(value)
    if number is not None:
        return number
    node = match.producer(value, *_UNARY, *_BINARY)
    if node is None or len(node.inputs) > 2:
        return None
    if len(parts.nodes) >= _MAX_NODES or parts.operands > _MAX_OPERANDS:
        return None
    parts.nodes[node.outputs[0]] = node
    operands: list[Expression] = []
    for operand in node.inputs:
        found = _expression(match, operand, leaf, parts)
        if found is None:
            return None
        operands.append(found)
    return (node.op, *operands)


@lru_cache(maxsize=1024)
def _recognise(expression: Expression) -> tuple[str, tuple[tuple[str, Attr], ...]] | None:
    with np.errstate(all="ignore"):
        got = _evaluate(expression)
        for op, attrs, function in _KNOWN:
            want = function(_POINTS)
            if np.all(np.abs(got - want) <= 1e-6 * (1 + np.abs(want))):
                return op, attrs
    return None


def _evaluate(expression: Expression) -> Arr:
    if isinstance(expression, str):
        return _POINTS
    if isinstance(expression, float):
        return np.full_like(_POINTS, expression)
    op, *operands = expression
    values = [_evaluate(e) for e in operands]
    return np.asarray(_UNARY[op](values[0]) if len(values) == 1 else _BINARY[op](values[0], values[1]))


def _leaves(match: Match, node: Node) -> list[Value]:
    """Values that may be the variable: everything read within a few element-wise steps, nearest first."""
    seen: dict[Value, None] = {}
    frontier: list[Value] = [v for v in node.inputs if v is not None]
    for _ in range(_MAX_NODES):
        following: list[Value] = []
        for value in frontier:
            if value in seen or scalar(value) is not None:
                continue
            seen[value] = None
            before = match.producer(value, *_UNARY, *_BINARY)
            if before is not None:
                following += [v for v in before.inputs if v is not None]
        frontier = following
        if not frontier or len(seen) > 2 * _MAX_NODES:
            break
    return list(seen)


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op not in ("Mul", "Div", "Add", "Log", "Reciprocal"):
        return None
    telling = False
    for leaf in _leaves(match, node):
        if leaf.type.shape != node.outputs[0].type.shape:
            continue
        read = _Parts()
        expression = _expression(match, node.outputs[0], leaf, read)
        if expression is None:
            continue
        parts = list(read.nodes.values())
        telling = telling or any(p.op in _TELLING for p in parts)
        found = _recognise(expression)
        if found is None or len(parts) < 2:
            continue
        _check_private(match, node, parts)
        op, attrs = found
        return (fused(node, op, (leaf,), dict(attrs), parts),)
    if telling and not _continues(match, node):
        raise Miss("its erf, tanh or sigmoid group computes no known activation function")
    return None


def _continues(match: Match, node: Node) -> bool:
    """True when the next node may still complete the function."""
    return any(n.op in _BINARY or n.op in _UNARY for n in match.consumers(node.outputs[0]))


def _check_private(match: Match, root: Node, parts: Sequence[Node]) -> None:
    for part in parts:
        for value in part.outputs if part is not root else ():
            if any(user not in parts for user in match.consumers(value)) or value in match.graph.outputs:
                raise Miss(f"'{value.name}' inside the activation is also read elsewhere")


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    return rewrite(graph, "activations", _rule)


PASS = Pass("activations", run, "activation functions of one tensor are one node")
