"""Arithmetic, comparisons and logic on what a tensor holds (see `symbols.py`): operation by operation."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tetrasim.sim.passes.masks.symbols import (
    Cases,
    Cong,
    Lin,
    Ratio,
    Rem,
    Same,
    Unread,
    Vec,
    bounded,
    spans,
)


def _as_lin(x: Any) -> Lin:
    if isinstance(x, Lin):
        return x
    if isinstance(x, bool | float) and math.isfinite(x) and x == int(x):
        return Lin((), int(x))
    raise Unread(f"arithmetic on {type(x).__name__.lower()} {x if isinstance(x, float) else ''}".rstrip())


def _sum(a: Lin, b: Lin, sign: int) -> Lin:
    total = dict(a.terms)
    for term, factor in b.terms:
        total[term] = total.get(term, 0) + sign * factor
    return Lin(tuple(sorted((t, f) for t, f in total.items() if f)), a.const + sign * b.const)


def _plain(lin: Lin) -> Any:
    return lin if lin.terms else float(lin.const)


def _arithmetic(name: str) -> Callable[[Any, Any], Any]:
    numbers: dict[str, Callable[[Any, Any], Any]] = {
        "Add": operator.add,
        "Sub": operator.sub,
        "Mul": operator.mul,
        "Max": max,
        "Min": min,
    }

    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, bool | float) and isinstance(b, bool | float):
            result = float(numbers[name](float(a), float(b)))
            if math.isnan(result):
                raise Unread("it holds what is not a number")
            return result
        if isinstance(a, Vec) and isinstance(b, bool | float) and name in ("Add", "Sub", "Mul"):
            return Vec(a.axis, np.asarray(numbers[name](a.array, b)))
        if name == "Mul":
            x, y = (a, b) if isinstance(b, bool | float) else (b, a)
            lin, factor = _as_lin(x), _as_lin(y)
            if factor.terms:
                raise Unread("a product of positions")
            scaled = tuple((t, f * factor.const) for t, f in lin.terms if factor.const)
            return _plain(Lin(scaled, lin.const * factor.const))
        if name in ("Add", "Sub"):
            return _plain(_sum(_as_lin(a), _as_lin(b), 1 if name == "Add" else -1))
        raise Unread(f"{name.lower()}imum of positions")

    return apply


def _divided(a: Any, b: Any) -> Any:
    if isinstance(a, bool | float) and isinstance(b, bool | float) and b:
        return float(a) / float(b)
    by = _as_lin(b)
    if by.terms or by.const <= 0:
        raise Unread("a division by positions")
    if isinstance(a, Vec):
        return Vec(a.axis, a.array / by.const)
    return Ratio(_as_lin(a), by.const)


def floored(x: Any, _attrs: Any = None) -> Any:
    """A ratio rounded down: one term of a larger unit."""
    if isinstance(x, bool | float):
        return float(math.floor(x))
    if isinstance(x, Vec):
        return Vec(x.axis, np.floor(x.array))
    if not isinstance(x, Ratio):
        return x
    if x.by == 1:
        return x.of
    if len(x.of.terms) != 1 or x.of.terms[0][1] != 1 or x.of.terms[0][0][2] != 1:
        raise Unread("a division of more than one position")
    ((axis, offset, _), _) = x.of.terms[0]
    return Lin((((axis, offset + x.of.const, x.by), 1),), 0)


def _remainder(a: Any, b: Any) -> Any:
    by = _as_lin(b)
    if by.terms or by.const <= 0:
        raise Unread("a remainder by positions")
    if isinstance(a, Vec):
        return Vec(a.axis, a.array % by.const)
    lin = _as_lin(a)
    return Rem(lin, by.const) if lin.terms else float(lin.const % by.const)


def _absolute(x: Any, _: Any) -> Any:
    if isinstance(x, bool | float):
        return float(abs(x))
    lin = _as_lin(floored(x))
    return Cases((), (((bounded(lin, 0, None)), lin),), _sum(Lin(()), lin, -1))


def _compare(name: str) -> Callable[[Any, Any], Any]:
    relation: dict[str, Callable[[Any, Any], Any]] = {
        "Less": operator.lt,
        "LessOrEqual": operator.le,
        "Greater": operator.gt,
        "GreaterOrEqual": operator.ge,
        "Equal": operator.eq,
    }
    bound: dict[str, tuple[int | None, int | None]] = {
        "Less": (None, -1),
        "LessOrEqual": (None, 0),
        "Greater": (1, None),
        "GreaterOrEqual": (0, None),
        "Equal": (0, 0),
    }

    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, bool | float) and isinstance(b, bool | float):
            return bool(relation[name](a, b))
        if isinstance(a, Vec) and isinstance(b, bool | float):
            return Cases((), ((spans(a.axis, relation[name](a.array, b)), True),), False)
        if isinstance(b, Vec) and isinstance(a, bool | float):
            return Cases((), ((spans(b.axis, relation[name](a, b.array)), True),), False)
        if name == "Equal" and (isinstance(a, Vec) or isinstance(b, Vec)):
            if not (isinstance(a, Vec) and isinstance(b, Vec) and a.axis != b.axis):
                raise Unread("a vector is compared with a position")
            return Cases((), (((((Same(a, b),),)), True),), False)
        if isinstance(a, Rem) or isinstance(b, Rem):
            return _congruent(name, a, b)
        low, high = bound[name]
        lin = _sum(_as_lin(a), _as_lin(b), -1)
        if not lin.terms:
            return bool(relation[name](lin.const, 0))
        return Cases((), ((bounded(lin, low, high), True),), False)

    return apply


def _congruent(name: str, a: Any, b: Any) -> Cases:
    if name != "Equal":
        raise Unread("a remainder is compared by size")
    if isinstance(a, Rem) and isinstance(b, Rem) and a.by == b.by:
        lin, by, rest = _sum(a.of, b.of, -1), a.by, 0
    else:
        rem, number = (a, b) if isinstance(a, Rem) else (b, a)
        if not isinstance(number, bool | float):
            raise Unread("a remainder is compared with a position")
        lin, by, rest = rem.of, rem.by, int(number)
    atom = Cong(lin.terms, by, (rest - lin.const) % by)
    return Cases((), ((((atom,),), True),), False)


def _logic(fn: Callable[[bool, bool], bool]) -> Callable[[Any, Any], Any]:
    def apply(a: Any, b: Any) -> Any:
        if not (isinstance(a, bool | float) and isinstance(b, bool | float)):
            raise Unread("logic on positions")
        return bool(fn(bool(a), bool(b)))

    return apply


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    **{name: _arithmetic(name) for name in ("Add", "Sub", "Mul", "Max", "Min")},
    **{name: _compare(name) for name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")},
    "Div": _divided,
    "Mod": _remainder,
    "And": _logic(lambda a, b: a and b),
    "Or": _logic(lambda a, b: a or b),
    "Xor": _logic(lambda a, b: a != b),
    "BitwiseAnd": _logic(lambda a, b: a and b),
    "BitwiseOr": _logic(lambda a, b: a or b),
}


def _cast(x: Any, attrs: Any) -> Any:
    to = str(attrs.get("to", attrs.get("dtype", "")))
    if to == "bool":
        if not isinstance(x, bool | float):
            raise Unread("positions read as true or false")
        return bool(x)
    if isinstance(x, bool):
        return float(x)
    return floored(x) if to.startswith(("int", "uint")) and isinstance(x, Ratio) else x


UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "Not": lambda x, _: _logic(lambda a, _b: not a)(x, False),
    "BitwiseNot": lambda x, _: _logic(lambda a, _b: not a)(x, False),
    "Cast": _cast,
    "CastLike": _cast,
    "Identity": lambda x, _: x,
    "Floor": floored,
    "Abs": _absolute,
    "Neg": lambda x, _: _plain(_sum(Lin(()), _as_lin(x), -1)),
    "IsInf": lambda x, _: isinstance(x, float) and math.isinf(x),
}
