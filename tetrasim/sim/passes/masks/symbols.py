"""What a mask shows, read from the operations that make it: no element of it is computed.

A tensor is read as a list of cases, first match first: (condition, what it holds), and what it holds
elsewhere. It holds a number, an expression of its indices (`Lin`: a sum of floor((index + offset) / unit)
terms, or `Rem`: its remainder), or a vector along one axis (`Vec`, document numbers). Comparisons of
expressions make conditions: a `Cmp` bounds an expression, a `Cong` fixes its remainder, a `Same` compares two
vectors. Axes count from the back (-1 keys, -2 queries), so that broadcasting changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


NOTHING = Cases((), (), 0.0)


def spans(axis: int, flags: Arr) -> Condition:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    if len(edges) > 8:
        raise Unread("a vector of flags has more than four runs")
    pairs = edges.reshape(-1, 2).tolist()
    return tuple((Cmp((((axis, 0, 1), 1),), low, high - 1),) for low, high in pairs)


def bounded(lin: Lin, low: int | None, high: int | None) -> Condition:
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


def combined(a: Cases, b: Cases, how: Callable[[Any, Any], Any]) -> Cases:
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
