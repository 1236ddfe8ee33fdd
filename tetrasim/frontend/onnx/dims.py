"""Binding the open dims of a file's inputs to numbers.

A dim of an input is a number, a name, or an integer expression of names (`past + seq`, as torch writes it).
A name is any text that is no such expression: `seq-len`, `None`, `?`. A dim without number and name, and one
that is -1, is called by its place: `x.0` is the first dim of input `x`. The place is another name of every
open dim, for files that call unlike dims alike.
"""

from __future__ import annotations

import ast
import operator
import re
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
_ALLOWED = (ast.Expression, ast.BinOp, ast.Name, ast.Constant, ast.Load, *_OPS)
_HYPHENATED = re.compile(r"[A-Za-z_]\w*(-\w+)+")  # torch writes a difference with spaces around its sign


def names_in(expression: str) -> tuple[str, ...]:
    """Dim names of an expression; text that is no expression is one name."""
    tree = _parsed(expression)
    if tree is None:
        return (expression,)
    return tuple(dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name)))


def _parsed(expression: str) -> ast.Expression | None:
    """The tree of an integer expression, None for text that is a name."""
    if _HYPHENATED.fullmatch(expression.strip()):
        return None
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = list(ast.walk(tree))
    whole = all(type(n.value) is int for n in nodes if isinstance(n, ast.Constant))
    return tree if whole and all(isinstance(n, _ALLOWED) for n in nodes) else None


def evaluate(expression: str, dims: Mapping[str, int]) -> int | None:
    """The number of a dim expression, None when a name is unbound.

    Raises:
        UserError: it divides by zero with these dims.
    """
    if expression in dims:
        return dims[expression]
    tree = _parsed(expression)
    if tree is None:
        return None
    try:
        return _value(tree.body, dims)
    except ZeroDivisionError:
        bound = ", ".join(f"{name}={dims[name]}" for name in names_in(expression))
        raise UserError(
            f"the dim '{expression}' divides by zero for {bound}",
            where="--dim",
            hint="bind it to another size",
        ) from None


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


def open_dims(graph: onnx.GraphProto) -> dict[str, str]:
    """The places of all dims of inputs that are no number, `x.0` -> its text; "" where there is none."""
    initial = {t.name for t in graph.initializer}
    return {
        f"{value.name}.{axis}": dim.dim_param
        for value in graph.input
        if value.name not in initial
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if not dim.HasField("dim_value") or dim.dim_value < 0
    }


def input_shape(value: onnx.ValueInfoProto, dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of an input with its open dims bound.

    Raises:
        UserError: a dim that comes out as no size.
    """
    shape = []
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        place = f"{value.name}.{axis}"
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            size: int | None = dim.dim_value
        else:
            size = dims[place] if place in dims else evaluate(dim.dim_param, dims)
        if size is None or size < 0:
            raise UserError(
                f"dim {axis} of input '{value.name}' ('{dim.dim_param}') comes out as {size}",
                where="--dim",
                hint="bind its names to sizes of which it is 0 or more",
            )
        shape.append(int(size))
    return tuple(shape)


def symbols_of(graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Every name that has to be bound -> the inputs that have it, in file order."""
    found: dict[str, list[str]] = {}
    for place, text in open_dims(graph).items():
        user = place.rpartition(".")[0]
        for name in names_in(text) if text else (place,):
            users = found.setdefault(name, [])
            if user not in users:
                users.append(user)
    return {name: tuple(users) for name, users in found.items()}


def check_dims(graph: onnx.GraphProto, dims: Mapping[str, int], where: str) -> None:
    """Every open dim bound, by a name, a whole expression or its place, to 0 or more, and nothing else bound.

    Raises:
        UserError: naming all dims that are not bound, or the one that does not exist.
    """
    places = open_dims(graph)
    symbols = symbols_of(graph)
    known = {*symbols, *places, *(text for text in places.values() if text)}
    missing = [
        name
        for name in symbols
        if name not in dims
        and any(
            name in (names_in(text) if text else (place,)) and place not in dims and text not in dims
            for place, text in places.items()
        )
    ]
    for name, size in dims.items():
        if name not in known:  # said before what is missing: a misspelt name is the cause of both
            raise UserError(
                f"the model has no dim '{name}'", where=where, hint=nearest(name, symbols or known)
            )
        if size < 0:
            raise UserError(f"dim '{name}' is {size}", where=where, hint="a dim is 0 or more")
    if missing:
        _refuse(missing, symbols, where)


def _refuse(missing: list[str], symbols: Mapping[str, tuple[str, ...]], where: str) -> None:
    told = [f"'{name}' (in {', '.join(repr(user) for user in symbols[name][:4])})" for name in missing]
    what = f"dim {told[0]} is not bound" if len(told) == 1 else f"the dims {', '.join(told)} are not bound"
    words = " ".join(f"{name}=NUMBER" if name.isidentifier() else f'"{name}=NUMBER"' for name in missing)
    plain = words.replace('"', "") if all(re.fullmatch(r"[\w.-]+", name) for name in missing) else words
    hint = f"add --dim {plain}"
    if len(missing) > 1:
        hint += "; `tetrasim import FILE --dims` says which of them must be equal"
    raise UserError(what, where=where, hint=hint)
