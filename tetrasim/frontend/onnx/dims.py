"""Binding symbolic dims to numbers. An input dim may be a name or an integer expression of names
(`past + seq`, as torch writes it); every name is bound by the caller."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tetrasim.errors import UserError, nearest

if TYPE_CHECKING:
    import onnx

_OPS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def names_in(expression: str) -> tuple[str, ...]:
    """Dim names of an expression; text that is no expression is one name."""
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError):
        return (expression,)
    if any(not isinstance(n, _ALLOWED) for n in ast.walk(tree)):
        return (expression,)
    return tuple(dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name)))


_ALLOWED = (ast.Expression, ast.BinOp, ast.Name, ast.Constant, ast.Load, *_OPS)


def evaluate(expression: str, dims: Mapping[str, int]) -> int | None:
    """The number of a dim expression, None when a name is unbound."""
    if expression in dims:
        return dims[expression]
    if names_in(expression) == (expression,):
        return None
    return _value(ast.parse(expression, mode="eval").body, dims)


def _value(node: ast.expr, dims: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) else None
    if isinstance(node, ast.Name):
        return dims.get(node.id)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, dims), _value(node.right, dims)
        if left is None or right is None:
            return None
        return int(_OPS[type(node.op)](left, right))
    return None


def symbols_of(graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Every symbolic dim name of the inputs -> the inputs that have it, in file order."""
    initial = {t.name for t in graph.initializer}
    found: dict[str, list[str]] = {}
    for value in graph.input:
        if value.name in initial:
            continue
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                for name in names_in(dim.dim_param) if dim.dim_param else ("?",):
                    users = found.setdefault(name, [])
                    if value.name not in users:
                        users.append(value.name)
    return {name: tuple(users) for name, users in found.items()}


def check_dims(symbols: Mapping[str, tuple[str, ...]], dims: Mapping[str, int], where: str) -> None:
    """Every symbol bound, to a positive number (0 allowed), and nothing else bound.

    Raises:
        UserError: naming the dim and the inputs that have it.
    """
    for name, users in symbols.items():
        if name == "?":
            raise UserError(
                f"input '{users[0]}' has a dim with neither size nor name",
                where=where,
                hint="export it again with named dynamic axes or static shapes",
            )
        if name not in dims:
            raise UserError(
                f"dim '{name}' is not bound; it occurs in {', '.join(repr(u) for u in users)}",
                where=where,
                hint=f"add --dim {name}=NUMBER",
            )
    for name, size in dims.items():
        if name not in symbols:
            raise UserError(f"the model has no dim '{name}'", where=where, hint=nearest(name, symbols))
        if size < 0:
            raise UserError(f"dim '{name}' is {size}", where=where, hint="a dim is 0 or more")
