"""What a mask shows, read from the operations that make it: no element of it is computed.

A tensor is read as a list of cases, first match first: (condition, what it holds), and what it holds
elsewhere. It holds a number, an expression of its indices (`Lin`: a sum of floor((index + offset) / unit)
terms, or `Rem`: its remainder), or a vector along one axis (`Vec`, document numbers). Comparisons of
expressions make conditions: a `Cmp` bounds an expression, a `Cong` fixes its remainder, a `Same` compares two
vectors. Axes count from the back (-1 keys, -2 queries), so that broadcasting changes nothing.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.ir.graph import Array, Data, Kind, TensorType, Value
from tetrasim.sim.ops.folded import Folded
from tetrasim.sim.ops.movement import slice_bounds
from tetrasim.sim.ops.opdef import int_attr, ints_attr
from tetrasim.sim.passes.contract import Match

Arr = NDArray[Any]
Term = tuple[int, int, int]  # axis, offset, unit: floor((index + offset) / unit)
MOST_CONDITIONS = 64


class Unread(Exception):  # noqa: N818 - no error: the mask has no structure that is understood, with the reason
    """Raised with what stopped the reading."""


@dataclass(frozen=True, slots=True)
class Lin:
    """sum of coefficient x term, plus `const`."""

    terms: tuple[tuple[Term, int], ...]
    const: int = 0


@dataclass(frozen=True, slots=True)
class Rem:
    """`of` modulo `by`."""

    of: Lin
    by: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """`of` / `by` before it is rounded down."""

    of: Lin
    by: int


@dataclass(frozen=True, slots=True, eq=False)
class Vec:
    """Numbers along one axis."""

    axis: int
    array: Arr


@dataclass(frozen=True, slots=True)
class Cmp:
    """`low <= sum of coefficient x term <= high`."""

    terms: tuple[tuple[Term, int], ...]
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Cong:
    """(sum of coefficient x term) modulo `by` is `rest`."""

    terms: tuple[tuple[Term, int], ...]
    by: int
    rest: int


@dataclass(frozen=True, slots=True)
class Same:
    """Two vectors are equal at their axes' indices."""

    a: Vec
    b: Vec


Atom = Cmp | Cong | Same
Condition = tuple[tuple[Atom, ...], ...]  # any of these, each a conjunction
Item = bool | float | Lin | Rem | Ratio | Vec
ALWAYS: Condition = ((),)


@dataclass(frozen=True, slots=True)
class Cases:
    """A tensor: what it holds where a condition is met, first match first, and elsewhere."""

    shape: tuple[int, ...]
    cases: tuple[tuple[Condition, Item], ...]
    rest: Item


def read_symbols(match: Match, value: Value) -> Cases:
    """The cases of a value that does not depend on inputs.

    Raises:
        Unread: it does, or an operation is not understood.
    """
    return _Reader(match).value(value)


class _Reader:
    """Walks back from a value through nodes and through constants that were folded."""

    def __init__(self, match: Match) -> None:
        self._match = match
        self._known: dict[int, Cases] = {}

    def value(self, value: Value) -> Cases:
        found = self._known.get(id(value))
        if found is None:
            found = self._known[id(value)] = self._value(value)
        return found

    def _value(self, value: Value) -> Cases:
        if value.data is not None:
            return self.data(value.data)
        node = self._match.producer(value)
        if node is None:
            raise Unread(f"it depends on '{value.name}', which is known at run time only")
        inputs = [self.value(v) for v in node.inputs if v is not None]
        return _apply(node.op, inputs, node.attrs, node.outputs[0].type)

    def data(self, data: Data) -> Cases:
        found = self._known.get(id(data))
        if found is None:
            if isinstance(data, Folded):
                found = _apply(data.op, [self.data(d) for d in data.inputs], data.attrs, data.type)
            else:
                found = leaf(data.load() if not isinstance(data, Array) else data.array)
            self._known[id(data)] = found
        return found


def leaf(array: Arr) -> Cases:
    """A small constant: a number, a count along one axis, or a vector."""
    array = np.asarray(array)
    flat = array.reshape(-1)
    if array.size and (flat == flat[0]).all():
        return Cases(array.shape, (), _number(flat[0]))
    wide = [i for i, d in enumerate(array.shape) if d != 1]
    if len(wide) != 1:
        raise Unread(f"a constant of shape {array.shape} is listed element by element")
    axis = wide[0] - array.ndim
    if array.dtype == bool:
        return Cases(array.shape, ((_spans(axis, flat), True),), False)
    step = flat[1] - flat[0]
    whole = step == int(step) and flat[0] == int(flat[0])
    if whole and np.array_equal(flat, flat[0] + step * np.arange(flat.size)):
        return Cases(array.shape, (), Lin((((axis, 0, 1), int(step)),), int(flat[0])))
    return Cases(array.shape, (), _steps(axis, flat) or Vec(axis, flat))


def _steps(axis: int, flat: Arr) -> Lin | Rem | None:
    """Numbers that grow by one every `unit` elements, or that start again every `by`."""
    count = np.arange(flat.size)
    if (flat != np.floor(flat)).any():
        return None
    rises, falls = np.flatnonzero(np.diff(flat) > 0) + 1, np.flatnonzero(np.diff(flat) < 0) + 1
    if rises.size:
        unit = int(rises[1] - rises[0]) if rises.size > 1 else max(int(rises[0]), flat.size - int(rises[0]))
        offset = unit - int(rises[0])
        if 0 <= offset < unit and np.array_equal(flat, flat[0] + (count + offset) // unit):
            return Lin((((axis, offset, unit), 1),), int(flat[0]))
    if falls.size:
        by = int(flat[falls[0] - 1]) + 1
        if by > 0 and np.array_equal(flat, (count + flat[0]) % by):
            return Rem(Lin((((axis, 0, 1), 1),), int(flat[0])), by)
    return None


def _number(x: Any) -> bool | float:
    return bool(x) if isinstance(x, np.bool_) else float(x)


def _spans(axis: int, flags: Arr) -> Condition:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    if len(edges) > 8:
        raise Unread("a vector of flags has more than four runs")
    pairs = edges.reshape(-1, 2).tolist()
    return tuple((Cmp((((axis, 0, 1), 1),), low, high - 1),) for low, high in pairs)


def _apply(op: str, inputs: Sequence[Cases], attrs: Any, type: TensorType) -> Cases:
    if op in _SHAPED:
        return _SHAPED[op](inputs[0], attrs)
    if op in _BINARY:
        out = inputs[0]
        for other in inputs[1:]:
            out = _combined(out, other, _BINARY[op])
        whole = op == "Div" and type.kind in (Kind.INT, Kind.UINT)
        return _combined(out, _NOTHING, _floored) if whole else out
    if op in _UNARY:
        return _combined(inputs[0], _NOTHING, lambda a, _: _UNARY[op](a, attrs))
    if op == "ConstantOfShape":
        return Cases(type.shape, (), float(attrs.get("value", 0)))
    if op == "Where":
        chosen = _combined(inputs[1], inputs[2], _Pair)
        return _combined(inputs[0], chosen, _picked)
    raise Unread(f"operation {op} is not understood")


_NOTHING = Cases((), (), 0.0)


@dataclass(frozen=True, slots=True)
class _Pair:
    yes: Any
    no: Any


def _picked(condition: Any, pair: Any) -> Any:
    if not isinstance(condition, bool | float):
        raise Unread("a choice by a number that is not known")
    return pair.yes if condition else pair.no


def _combined(a: Cases, b: Cases, how: Callable[[Any, Any], Any]) -> Cases:
    """`how` on every pair of cases; its result may itself be a condition (a comparison of expressions)."""
    out: list[tuple[Condition, Any]] = []
    for x, y in product((*a.cases, (ALWAYS, a.rest)), (*b.cases, (ALWAYS, b.rest))):
        where = _and(x[0], y[0])
        got = how(x[1], y[1])
        if isinstance(got, Cases):
            out += [(_and(where, c), item) for c, item in got.cases]
            got = got.rest
        out.append((where, got))
    rest = out.pop()[1]
    shape = tuple(np.broadcast_shapes(a.shape, b.shape))
    return Cases(shape, _trimmed(out, rest), rest)


def _trimmed(cases: list[tuple[Condition, Any]], rest: Any) -> tuple[tuple[Condition, Any], ...]:
    """Cases that can be met; neighbours that hold the same are joined, last ones that hold what the rest does
    are left out."""
    joined: list[tuple[Condition, Any]] = []
    for where, item in cases:
        if where and joined and joined[-1][1] == item:
            joined[-1] = (tuple(dict.fromkeys((*joined[-1][0], *where))), item)
        elif where:
            joined.append((where, item))
    while joined and joined[-1][1] == rest:
        joined.pop()
    return tuple(joined)


def _and(a: Condition, b: Condition) -> Condition:
    if len(a) * len(b) > MOST_CONDITIONS:
        raise Unread("it has too many alternatives")
    both = (_conjunction((*x, *y)) for x, y in product(a, b))
    return tuple(dict.fromkeys(c for c in both if c is not None))


def _conjunction(atoms: Sequence[Atom]) -> tuple[Atom, ...] | None:
    """Bounds of one expression joined; None when they exclude each other."""
    bounds: dict[Any, Cmp] = {}
    others: dict[Atom, None] = {}
    for atom in atoms:
        if not isinstance(atom, Cmp):
            others[atom] = None
            continue
        mine = bounds.get(atom.terms, Cmp(atom.terms, None, None))
        lows = [x for x in (mine.low, atom.low) if x is not None]
        highs = [x for x in (mine.high, atom.high) if x is not None]
        joint = Cmp(atom.terms, max(lows, default=None), min(highs, default=None))
        if joint.low is not None and joint.high is not None and joint.low > joint.high:
            return None
        bounds[atom.terms] = joint
    return (*sorted(bounds.values(), key=repr), *others)


def negated(condition: Condition) -> Condition:
    """Where `condition` is not met.

    Raises:
        Unread: a remainder or a comparison of vectors would have to be excluded.
    """
    out = ALWAYS
    for conjunction in condition:
        out = _and(out, tuple((atom,) for part in conjunction for atom in _not(part)))
    return out


def _not(atom: Atom) -> Iterator[Atom]:
    if not isinstance(atom, Cmp):
        raise Unread("what it hides, not what it shows, is a remainder or a document")
    if atom.low is not None:
        yield Cmp(atom.terms, None, atom.low - 1)
    if atom.high is not None:
        yield Cmp(atom.terms, atom.high + 1, None)


def where(tensor: Cases, wanted: Callable[[Item], bool]) -> Condition:
    """Where the tensor holds what is `wanted`."""
    found: Condition = ()
    before: Condition = ()
    for condition, item in (*tensor.cases, (ALWAYS, tensor.rest)):
        if wanted(item):
            found = (*found, *(_and(condition, negated(before)) if before else condition))
        else:
            before = (*before, *condition)
    return tuple(dict.fromkeys(found))


# --- numbers and expressions ---------------------------------------------------------------------------


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
    numbers: dict[str, Callable[[float, float], float]] = {
        "Add": operator.add,
        "Sub": operator.sub,
        "Mul": lambda a, b: 0.0 if 0.0 in (a, b) else a * b,  # masks are multiplied by 0 where they are -inf
        "Max": max,
        "Min": min,
    }

    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, bool | float) and isinstance(b, bool | float):
            return float(numbers[name](float(a), float(b)))
        if isinstance(a, Vec) and isinstance(b, bool | float):
            return Vec(a.axis, np.asarray(numbers[name](a.array, b)) if name != "Mul" else a.array * b)
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
        return Vec(a.axis, a.array // by.const)
    return Ratio(_as_lin(a), by.const)


def _floored(x: Any, _attrs: Any = None) -> Any:
    """A ratio rounded down: one term of a larger unit."""
    if isinstance(x, bool | float):
        return float(math.floor(x))
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
    lin = _as_lin(_floored(x))
    return Cases((), (((_bounded(lin, 0, None)), lin),), _sum(Lin(()), lin, -1))


def _bounded(lin: Lin, low: int | None, high: int | None) -> Condition:
    """low <= lin <= high."""
    terms, sign = lin.terms, 1 if lin.terms[0][1] > 0 else -1
    common = math.gcd(*(f for _, f in terms)) * sign
    low, high = (None if x is None else x - lin.const for x in (low, high))
    if common < 0:
        low, high = (None if high is None else -high), (None if low is None else -low)
    size = abs(common)
    low = None if low is None else -(-low // size)
    high = None if high is None else high // size
    return ((Cmp(tuple((t, f // common) for t, f in terms), low, high),),)


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
            return Cases((), ((_spans(a.axis, relation[name](a.array, b)), True),), False)
        if isinstance(b, Vec) and isinstance(a, bool | float):
            return Cases((), ((_spans(b.axis, relation[name](a, b.array)), True),), False)
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
        return Cases((), ((_bounded(lin, low, high), True),), False)

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


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
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
    return _floored(x) if to.startswith(("int", "uint")) and isinstance(x, Ratio) else x


_UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "Not": lambda x, _: _logic(lambda a, _b: not a)(x, False),
    "BitwiseNot": lambda x, _: _logic(lambda a, _b: not a)(x, False),
    "Cast": _cast,
    "CastLike": _cast,
    "Identity": lambda x, _: x,
    "Floor": _floored,
    "Abs": _absolute,
    "Neg": lambda x, _: _plain(_sum(Lin(()), _as_lin(x), -1)),
    "IsInf": lambda x, _: isinstance(x, float) and math.isinf(x),
}


# --- shapes --------------------------------------------------------------------------------------------


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
    kept = _bounded(behind, None, -k) if upper else _bounded(behind, -k, None)
    keep = Cases(x.shape, ((kept, True),), False)
    zero: Item = False if isinstance(x.rest, bool) else 0.0
    return _combined(keep, x, lambda kept_, item: item if kept_ else zero)


def _eye(x: Cases, attrs: Any) -> Cases:
    behind = Lin((((-2, 0, 1), 1), ((-1, 0, 1), -1)), int_attr(attrs, "k", 0))
    return Cases(x.shape, ((_bounded(behind, 0, 0), 1.0),), 0.0)


def _expanded(x: Cases, attrs: Any) -> Cases:
    return replace(x, shape=tuple(np.broadcast_shapes(x.shape, ints_attr(attrs, "shape"))))


_SHAPED: dict[str, Callable[[Cases, Any], Cases]] = {
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
