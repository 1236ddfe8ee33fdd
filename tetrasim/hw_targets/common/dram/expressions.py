"""Integer expressions over timing names, as constraint tables use them: `nCWL + nBL + max(nWTRS, nWTRL)`.

A device file is a user's file, so an expression is parsed and walked, never evaluated by Python: integers,
names, `+ - * //`, parentheses, `max(...)` and `min(...)`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache

from tetrasim.errors import UserError, nearest

MAX_LENGTH = 200


def evaluate(expression: str | int, names: Mapping[str, int], where: str = "") -> int:
    """Value of `expression` in cycles.

    Raises:
        UserError: a name without a value, or anything that is not integer arithmetic.
    """
    if isinstance(expression, int):
        return expression
    text = str(expression)
    if len(text) > MAX_LENGTH:
        raise UserError("the expression is too long", where=where, hint=f"at most {MAX_LENGTH} characters")
    try:
        tree = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(
            f"'{text}' is not an expression", where=where, hint="write it like nCWL + nBL + nWR"
        ) from None
    return _walk(tree.body, names, text, where)


def names_in(expression: str) -> frozenset[str]:
    """The timing names that a valid expression reads."""
    calls = {"max", "min"}
    return frozenset(n.id for n in ast.walk(_parsed(expression)) if isinstance(n, ast.Name)) - calls


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ast.Expression:
    return ast.parse(text, mode="eval")


def _walk(node: ast.expr, names: Mapping[str, int], text: str, where: str) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise UserError(
                f"timing value '{node.id}' of '{text}' is missing", where=where, hint=nearest(node.id, names)
            )
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_walk(node.operand, names, text, where)
    if isinstance(node, ast.BinOp):
        left, right = _walk(node.left, names, text, where), _walk(node.right, names, text, where)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.FloorDiv) and right:
            return left // right
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and not node.keywords:
        values = [_walk(a, names, text, where) for a in node.args]
        if node.func.id in ("max", "min"):
            return max(values) if node.func.id == "max" else min(values)
    raise UserError(
        f"'{text}' is not integer arithmetic over timing names",
        where=where,
        hint="use + - * //, parentheses, max(...) and min(...)",
    )
