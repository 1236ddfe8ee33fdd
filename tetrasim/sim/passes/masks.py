"""Reading attention masks: which part of a mask is causal, which must be kept.

A mask is a constant (folded at import) or computed from inputs. Constants are compared with the causal
pattern and with its sliding-window form; in `And(causal, padding)` only the padding stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.ir.graph import Kind, Value
from tetrasim.sim.ops.attention import causal_mask
from tetrasim.sim.passes.contract import Match, scalar

Arr = NDArray[Any]
HIDDEN = -1e4  # an additive mask value at or below this hides a key
MAX_ELEMENTS = 1 << 27


@dataclass(frozen=True)
class Mask:
    """What attention must respect: `causal` with its `window` (0: none), and the rest as a value."""

    causal: bool = False
    window: int = 0
    value: Value | None = None


def read_mask(match: Match, value: Value, q_len: int, kv_len: int) -> Mask:
    """Split a boolean (True: visible) or additive mask into its causal part and the rest. Read once per
    value: all layers share their mask."""
    known = match.masks.get((value, q_len, kv_len))
    if not isinstance(known, Mask):
        known = _read(match, value, q_len, kv_len)
        match.masks[value, q_len, kv_len] = known
    return known


def _read(match: Match, value: Value, q_len: int, kv_len: int) -> Mask:
    array = _constant(value)
    if array is not None:
        return _read_constant(value, array, q_len, kv_len)
    node = match.producer(value, "Expand", "Where", "And")
    if node is None:
        return Mask(value=value)
    if node.op == "Expand" and node.inputs[0] is not None:
        return read_mask(match, node.inputs[0], q_len, kv_len)
    if node.op == "Where":
        # Where(visible, 0, -inf) as an additive mask is the boolean mask itself
        condition, zero, hidden = node.inputs
        if scalar(zero) == 0 and scalar(hidden) == -np.inf and condition is not None:
            return read_mask(match, condition, q_len, kv_len)
        return Mask(value=value)
    first, second = node.inputs
    for known, rest in ((first, second), (second, first)):
        array = None if known is None else _constant(known)
        if array is None or known is None or rest is None:
            continue
        part = _read_constant(known, array, q_len, kv_len)
        if part.value is None:
            inner = read_mask(match, rest, q_len, kv_len)
            if not inner.causal:
                return replace(part, value=inner.value)
    return Mask(value=value)


def _constant(value: Value) -> Arr | None:
    if value.data is None or value.type.elements > MAX_ELEMENTS or value.type.kind is Kind.INT:
        return None
    return np.asarray(value.data.load())


def _read_constant(value: Value, array: Arr, q_len: int, kv_len: int) -> Mask:
    """Causal, windowed or empty masks are recognised; anything else stays as it is."""
    if array.ndim < 2:
        rows = np.broadcast_to(array, (q_len, kv_len))
    elif all(d == 1 for d in array.shape[:-2]):
        rows = np.broadcast_to(array.reshape(array.shape[-2:]), (q_len, kv_len))
    else:
        return Mask(value=value)
    if array.dtype == bool:
        visible = rows
    elif np.all((rows == 0) | (rows <= HIDDEN)):
        visible = rows == 0
    else:
        return Mask(value=value)
    if visible.all():
        return Mask()
    if np.array_equal(visible, causal_mask(q_len, kv_len)):
        return Mask(causal=True)
    window = int(visible[-1].sum())
    if window and np.array_equal(visible, causal_mask(q_len, kv_len, window)):
        return Mask(causal=True, window=window)
    return Mask(value=value)
