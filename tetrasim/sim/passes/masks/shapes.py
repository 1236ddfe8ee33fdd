"""Reshapes, slices, triangles and the like on what a tensor holds (see `symbols.py`): axes are renamed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tetrasim.sim.ops.movement import slice_bounds
from tetrasim.sim.ops.opdef import int_attr, ints_attr
from tetrasim.sim.passes.masks.symbols import (
    Atom,
    Cases,
    Cmp,
    Cong,
    Item,
    Lin,
    Ratio,
    Rem,
    Same,
    Term,
    Unread,
    Vec,
    bounded,
    combined,
)


def _moved(x: Cases, shape: tuple[int, ...], axis_of: dict[int, int]) -> Cases:
    """The tensor in another shape, its axes renamed."""

    def term(t: Term) -> Term:
        return axis_of.get(t[0], t[0]), t[1], t[2]

    return _mapped(x, shape, term, lambda v: Vec(axis_of.get(v.axis, v.axis), v.array))


def _mapped(
    x: Cases, shape: tuple[int, ...], term: Callable[[Term], Term], vec: Callable[[Vec], Vec]
) -> Cases:
    def terms(given: tuple[tuple[Term, int], ...]) -> tuple[tuple[Term, int], ...]:
        return tuple(sorted((term(t), f) for t, f in given))

    def item(i: Any) -> Any:
        if isinstance(i, Lin):
            return replace(i, terms=terms(i.terms))
        if isinstance(i, Rem | Ratio):
            return replace(i, of=replace(i.of, terms=terms(i.of.terms)))
        return vec(i) if isinstance(i, Vec) else i

    def atom(a: Atom) -> Atom:
        if isinstance(a, Same):
            return Same(vec(a.a), vec(a.b))
        turned = terms(a.terms)
        if turned[0][1] >= 0:
            return replace(a, terms=turned)
        flipped = tuple((t, -f) for t, f in turned)
        if isinstance(a, Cong):
            return Cong(flipped, a.by, -a.rest % a.by)
        return Cmp(flipped, None if a.high is None else -a.high, None if a.low is None else -a.low)

    cases = tuple((tuple(tuple(map(atom, c)) for c in where_), item(i)) for where_, i in x.cases)
    return Cases(shape, cases, item(x.rest))


def _reshaped(x: Cases, shape: tuple[int, ...]) -> Cases:
    old = [i - len(x.shape) for i, d in enumerate(x.shape) if d != 1]
    new = [i - len(shape) for i, d in enumerate(shape) if d != 1]
    if [x.shape[i] for i in old] != [shape[i] for i in new]:
        if not x.cases and isinstance(x.rest, bool | float):
            return replace(x, shape=shape)
        raise Unread(f"a reshape from {x.shape} to {shape}")
    return _moved(x, shape, dict(zip(old, new, strict=True)))


def _unsqueezed(x: Cases, attrs: Any) -> Cases:
    axes = ints_attr(attrs, "axes")
    rank = len(x.shape) + len(axes)
    added = {a % rank for a in axes}
    old = iter(x.shape)
    return _reshaped(x, tuple(1 if i in added else next(old) for i in range(rank)))


def _squeezed(x: Cases, attrs: Any) -> Cases:
    axes = {a % len(x.shape) for a in ints_attr(attrs, "axes", ())}
    gone = axes or {i for i, d in enumerate(x.shape) if d == 1}
    return _reshaped(x, tuple(d for i, d in enumerate(x.shape) if i not in gone))


def _transposed(x: Cases, attrs: Any) -> Cases:
    rank = len(x.shape)
    perm = ints_attr(attrs, "perm", tuple(reversed(range(rank))))
    shape = tuple(x.shape[p] for p in perm)
    return _moved(x, shape, {p - rank: i - rank for i, p in enumerate(perm)})


def _sliced(x: Cases, attrs: Any) -> Cases:
    bounds = slice_bounds(x.shape, attrs)
    shape = tuple(len(range(*b)) for b in bounds)
    step_of = {i - len(x.shape): b for i, b in enumerate(bounds)}
    if any(step != 1 for _, _, step in bounds):
        raise Unread("a slice with a step")

    def term(t: Term) -> Term:
        return t[0], t[1] + step_of[t[0]][0], t[2]

    return _mapped(x, shape, term, lambda v: Vec(v.axis, v.array[slice(*step_of[v.axis])]))


def _trilu(x: Cases, attrs: Any) -> Cases:
    k, upper = int_attr(attrs, "k", 0), int_attr(attrs, "upper", 1)
    behind = Lin((((-2, 0, 1), 1), ((-1, 0, 1), -1)), 0)  # row - column
    kept = bounded(behind, None, -k) if upper else bounded(behind, -k, None)
    keep = Cases(x.shape, ((kept, True),), False)
    zero: Item = False if isinstance(x.rest, bool) else 0.0
    return combined(keep, x, lambda kept_, item: item if kept_ else zero)


def _eye(x: Cases, attrs: Any) -> Cases:
    behind = Lin((((-2, 0, 1), 1), ((-1, 0, 1), -1)), int_attr(attrs, "k", 0))
    return Cases(x.shape, ((bounded(behind, 0, 0), 1.0),), 0.0)


def _expanded(x: Cases, attrs: Any) -> Cases:
    return replace(x, shape=tuple(np.broadcast_shapes(x.shape, ints_attr(attrs, "shape"))))


SHAPED: dict[str, Callable[[Cases, Any], Cases]] = {
    "Reshape": lambda x, a: _reshaped(x, _target(x, a)),
    "Unsqueeze": _unsqueezed,
    "Squeeze": _squeezed,
    "Transpose": _transposed,
    "Slice": _sliced,
    "Trilu": _trilu,
    "EyeLike": _eye,
    "Expand": _expanded,
}


def _target(x: Cases, attrs: Any) -> tuple[int, ...]:
    shape = list(ints_attr(attrs, "shape"))
    shape = [x.shape[i] if d == 0 and not attrs.get("allowzero") else d for i, d in enumerate(shape)]
    if -1 in shape:
        shape[shape.index(-1)] = math.prod(x.shape) // max(-math.prod(shape), 1)
    return tuple(shape)
