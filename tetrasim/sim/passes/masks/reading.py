"""Reading attention masks: the structure that is known before the run, and what must be kept as a value.

A constant that is held in memory is looked at (`fit.py`); one that is computed from positions is read from
its operations (`reader.py`), at any length. In `And(causal, padding)` only the padding stays a value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from tetrasim.sim.ir.graph import Array, Kind, Value
from tetrasim.sim.ops.attention import HIDDEN, constant_matrix
from tetrasim.sim.ops.mask import FULL, MOST_REGIONS, Band, Mask, Region, simplified
from tetrasim.sim.passes.contract import Match, scalar
from tetrasim.sim.passes.masks.fit import fit_mask
from tetrasim.sim.passes.masks.reader import read_symbols
from tetrasim.sim.passes.masks.symbols import ALWAYS, Atom, Cmp, Cong, Same, Term, Unread, where

_LOOKED_AT = 1 << 22  # elements of a constant that was folded but not kept: cheaper to compute than to read


@dataclass(frozen=True)
class Reading:
    """What attention must respect: a structure, and the rest as a value. `stopped`: why there is a rest;
    `blind`: the structure hides every key of some query."""

    mask: Mask = FULL
    value: Value | None = None
    stopped: str = ""
    blind: bool = False


def read_mask(match: Match, value: Value, q_len: int, kv_len: int) -> Reading:
    """Split a boolean (True: visible) or additive mask into structure and rest. Read once per value: all
    layers share their mask."""
    known = match.masks.get((value, q_len, kv_len))
    if not isinstance(known, Reading):
        known = _read(match, value, q_len, kv_len)
        match.masks[value, q_len, kv_len] = known
    return known


def both(a: Mask, b: Mask) -> Mask | None:
    """The pairs that both masks show; None when that takes too many regions, or nothing is left."""
    regions = simplified(x.both(y) for x, y in product(a.regions, b.regions))
    return Mask(regions) if 0 < len(regions) <= MOST_REGIONS else None


def _read(match: Match, value: Value, q_len: int, kv_len: int) -> Reading:
    if isinstance(value.data, Array) or (value.data is not None and value.type.elements <= _LOOKED_AT):
        return _looked_at(value, q_len, kv_len)
    try:
        return _by_symbols(match, value, q_len, kv_len)
    except Unread as stopped:
        reason = str(stopped)
    if value.data is not None:
        return replace(_looked_at(value, q_len, kv_len), stopped=reason)
    return _split(match, value, q_len, kv_len, reason)


def _split(match: Match, value: Value, q_len: int, kv_len: int, reason: str) -> Reading:
    """A mask that depends on inputs: parts of it may not."""
    node = match.producer(value, "Expand", "Where", "And")
    rest = Reading(value=value, stopped=reason)
    if node is None:
        return rest
    if node.op == "Expand" and node.inputs[0] is not None:
        inner = read_mask(match, node.inputs[0], q_len, kv_len)
        return rest if inner.value is node.inputs[0] else inner
    if node.op == "Where":
        # Where(visible, 0, -inf) as an additive mask is the boolean mask itself
        condition, zero, hidden = node.inputs
        if scalar(zero) == 0 and scalar(hidden) == -np.inf and condition is not None:
            return read_mask(match, condition, q_len, kv_len)
        return rest
    first, second = node.inputs
    for known, other in ((first, second), (second, first)):
        if known is None or other is None:
            continue
        part = read_mask(match, known, q_len, kv_len)
        inner = read_mask(match, other, q_len, kv_len)
        joint = both(part.mask, inner.mask)
        if part.value is None and joint is not None:
            return Reading(joint, inner.value, inner.stopped, part.blind or inner.blind)
    return rest


def _looked_at(value: Value, q_len: int, kv_len: int) -> Reading:
    matrix = constant_matrix(value, q_len, kv_len)
    if matrix is None:
        return Reading(value=value, stopped=f"'{value.name}' differs by head or sequence, or is too large")
    if matrix.dtype != bool and not np.all((matrix == 0) | (matrix <= HIDDEN)):
        return Reading(value=value, stopped=f"'{value.name}' holds a bias, not only hidden pairs")
    visible = matrix if matrix.dtype == bool else matrix == 0
    blind = not visible.any(axis=1).all()
    if blind and matrix.dtype != bool and np.isfinite(matrix).all():
        # the softmax of such a row depends on how the sum is rounded
        return Reading(value=value, stopped=f"'{value.name}' hides every key of a query with a finite number")
    found = fit_mask(visible)
    if found is None:
        return Reading(value=value, stopped=f"'{value.name}' is an arbitrary pattern")
    return Reading(found, blind=blind)


# --- from conditions to regions ------------------------------------------------------------------------


def _by_symbols(match: Match, value: Value, q_len: int, kv_len: int) -> Reading:
    tensor = read_symbols(match, value)
    boolean = value.type.kind is Kind.BOOL
    for item in (*(i for _, i in tensor.cases), tensor.rest):
        if not isinstance(item, bool | float) or not (boolean or item == 0 or item <= HIDDEN):
            raise Unread("it holds a bias, not only hidden pairs")
    shown = where(tensor, lambda item: bool(item) if boolean else item == 0)
    if shown == ALWAYS:
        return Reading()
    stretch = {axis: size for axis, size in ((-1, kv_len), (-2, q_len))}
    for axis, size in stretch.items():
        own = tensor.shape[axis] if len(tensor.shape) >= -axis else 1
        if own not in (1, size):
            raise Unread(f"its axis {axis} has {own} elements, not {size}")
    regions = simplified(_region(c, kv_len - q_len, kv_len) for c in shown)
    if not 0 < len(regions) <= MOST_REGIONS:
        raise Unread(f"it has {len(regions)} regions")
    mask = Mask(regions)
    blind = int(mask.counts(q_len, kv_len).min()) == 0
    hidden = [i for i in (*(i for _, i in tensor.cases), tensor.rest) if not boolean and i]
    if blind and any(math.isfinite(h) for h in hidden if isinstance(h, float)):
        raise Unread("it hides every key of a query with a finite number")
    return Reading(mask, blind=blind)


def _region(conjunction: tuple[Atom, ...], offset: int, kv_len: int) -> Region:
    """`offset`: position of the first query."""
    out = Region()
    for atom in conjunction:
        if isinstance(atom, Cmp):
            out = out.both(_bound(atom, offset, kv_len))
        elif isinstance(atom, Cong):
            out = out.both(Region(stride=_stride(atom, offset)))
        else:
            out = out.both(Region(starts=_documents(atom, offset, kv_len)))
    return out


def _bound(atom: Cmp, offset: int, kv_len: int) -> Region:
    factors = dict(atom.terms)
    by_axis: dict[int, list[tuple[Term, int]]] = defaultdict(list)
    for term, factor in factors.items():
        by_axis[term[0]].append((term, factor))
    if set(by_axis) - {-1, -2} or any(len(terms) > 1 for terms in by_axis.values()):
        raise Unread("it compares more than a query's and a key's position")
    low, high = atom.low, atom.high
    if len(by_axis) == 1:
        ((axis, ((((_, shift, unit), factor),))),) = by_axis.items()
        if factor != 1:
            low, high = (None if high is None else -high), (None if low is None else -low)
        shift -= offset if axis == -2 else 0
        span = (
            None if low is None else low * unit - shift,
            None if high is None else high * unit + unit - 1 - shift,
        )
        first = 0 if axis == -1 else offset
        open_span = (
            None if span[0] is None or span[0] <= first else span[0],
            None if span[1] is None or span[1] >= kv_len - 1 else span[1],
        )
        return Region(keys=open_span) if axis == -1 else Region(queries=open_span)
    ((query, sign),), ((key, against),) = by_axis[-2], by_axis[-1]
    if sign + against or abs(sign) != 1 or query[2] != key[2]:
        raise Unread("it compares multiples of positions")
    if sign < 0:
        low, high = (None if high is None else -high), (None if low is None else -low)
    unit = query[2]
    if (query[1] - offset) % unit or key[1] % unit:
        raise Unread("its blocks do not start at the first key")
    # (p + a) // unit - (j + b) // unit, with a and b whole blocks
    ahead = (query[1] - offset) // unit - key[1] // unit
    return Region((Band(None if low is None else low - ahead, None if high is None else high - ahead, unit),))


def _stride(atom: Cong, offset: int) -> int:
    terms = dict(atom.terms)
    axes = sorted((axis, shift, unit, factor) for (axis, shift, unit), factor in terms.items())
    if (
        [(a, u) for a, _, u, _ in axes] != [(-2, 1), (-1, 1)]
        or axes[0][3] + axes[1][3]
        or abs(axes[0][3]) != 1
    ):
        raise Unread("a remainder of something other than a distance")
    sign = axes[0][3]
    # sign * ((p - offset + a) - (j + b)) = rest
    if (sign * (axes[0][1] - offset - axes[1][1]) - atom.rest) % atom.by:
        raise Unread("its dilation does not start at the query's own key")
    return atom.by


def _documents(atom: Same, offset: int, kv_len: int) -> tuple[int, ...]:
    sides: dict[int, Any] = {atom.a.axis: atom.a.array, atom.b.axis: atom.b.array}
    if (
        set(sides) != {-1, -2}
        or len(sides[-1]) != kv_len
        or not np.array_equal(sides[-1][offset:], sides[-2])
    ):
        raise Unread("its queries' documents are not those of the keys")
    starts = [0, *(np.flatnonzero(np.diff(sides[-1])) + 1).tolist()]
    if len(set(sides[-1].tolist())) != len(starts):
        raise Unread("a document is not in one piece")
    return tuple(starts)
