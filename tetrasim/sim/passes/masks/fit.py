"""The structure of a mask that is listed element by element: a short description that is then compared with
every element, so that nothing is guessed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.ops.mask import CAUSAL, FULL, Band, Mask, Region

Bools = NDArray[np.bool_]


def fit_mask(visible: Bools) -> Mask | None:
    """The structure of a mask [q_len, kv_len], True where a pair is visible; None when `Mask` does not
    describe it in a few conditions."""
    if visible.all():
        return FULL
    q_len, kv_len = visible.shape
    some = np.flatnonzero(visible.any(axis=1))
    if not some.size:
        return None
    probes = np.unique(np.array([some[0], some[len(some) // 3], some[2 * len(some) // 3], some[-1]]))
    p, j = np.arange(kv_len - q_len, kv_len), np.arange(kv_len)
    for mask in dict.fromkeys(_candidates(visible, some)):
        near = np.any([r.dense(p[probes], j) for r in mask.regions], axis=0)
        if np.array_equal(near, visible[probes]) and np.array_equal(mask.dense(q_len, kv_len), visible):
            return mask
    return None


def _candidates(visible: Bools, some: NDArray[np.intp]) -> Iterator[Mask]:
    q_len, kv_len = visible.shape
    p = some + kv_len - q_len
    first = visible[some].argmax(axis=1)
    last = kv_len - 1 - visible[some, ::-1].argmax(axis=1)
    low, high = int((p - last).min()), int((p - first).max())
    bands = [Band(low, None), Band(None, high), Band(low, high)]
    bands = [bands[0], bands[2], bands[1]] if low == 0 else bands
    yield CAUSAL
    yield from (Mask((Region((b,)),)) for b in bands)
    yield from _of_queries_and_keys(visible, some)
    stride = math.gcd(*(int(d) for row in (0, -1) for d in p[row] - np.flatnonzero(visible[some[row]])))
    if stride > 1:
        yield Mask((Region(stride=stride),))
        yield from (Mask((Region((b,), stride=stride),)) for b in bands)
    for unit in _units(first, last, p):
        here = Band(0, 0, unit)
        yield Mask((Region((here,)),))
        yield Mask((Region((Band(0, None), here)),))
        yield Mask((Region((Band(0, None, unit),)),))
        back = int((p // unit - first // unit).max())
        ahead = int((p // unit - last // unit).min())
        yield Mask((Region((Band(ahead, back, unit),)),))
        yield Mask((Region((Band(0, None), Band(ahead, back, unit))),))
    starts = tuple(sorted({0, *map(int, first)}))
    if len(starts) <= q_len // 2 + 1:
        yield Mask((Region(starts=starts),))
        yield Mask((Region((Band(0, None),), starts=starts),))
    yield from _with_global_tokens(visible, some)


def _units(first: NDArray[np.intp], last: NDArray[np.intp], p: NDArray[np.intp]) -> Iterator[int]:
    """Lengths that blocks may have."""
    lengths = {int(last[0]) + 1, int(last[0] - first[0]) + 1, int(last[-1] - first[-1]) + 1}
    jumps = np.flatnonzero(np.diff(last) > 0)
    lengths |= {int(np.diff(last)[jumps[0]])} if jumps.size else set()
    lengths |= {int(n) for n in {int(last[0] - first[0] + 1) // 2, int(last[0] + 1) // 2}}
    yield from sorted(n for n in lengths if 1 < n <= p[-1])


def _of_queries_and_keys(visible: Bools, some: NDArray[np.intp]) -> Iterator[Mask]:
    """Padding: a run of keys, for all queries or for a run of them; alone, or with the causal mask."""
    keys = np.flatnonzero(visible.any(axis=0))
    span = (int(keys[0]) or None, None if keys[-1] == visible.shape[1] - 1 else int(keys[-1]))
    off = visible.shape[1] - visible.shape[0]
    rows = (int(some[0]) + off, int(some[-1]) + off)
    queries = (rows[0] if some[0] else None, None if some[-1] == visible.shape[0] - 1 else rows[1])
    for bands in ((), (Band(0, None),)):
        yield Mask((Region(bands, keys=span),))
        yield Mask((Region(bands, keys=span, queries=queries),))


def _with_global_tokens(visible: Bools, some: NDArray[np.intp]) -> Iterator[Mask]:
    """A window beside keys that all see (sinks, prefixes) and queries that see all (global tokens)."""
    kv_len = visible.shape[1]
    off = kv_len - visible.shape[0]
    middle, end = visible[some[len(some) // 2]], visible[some[-1]]
    sinks = {_leading(middle), _leading(end), _leading(visible[some[0]])} - {kv_len}
    full = _leading(np.asarray(visible.all(axis=1)))
    position = int(some[len(some) // 2]) + off
    gap = np.flatnonzero(~middle[: position + 1])
    before = position - int(gap[-1]) if gap.size else None  # keys of the window, with the query's own
    after = _leading(middle[position + 1 :]) if position + 1 < kv_len else 0
    lengths = {w if w is not None and w < kv_len else None for w in (before, _trailing(end))}
    windows = sorted(lengths, key=lambda w: w or 0)  # an open one first
    for sink, window, ahead in product(sorted(sinks), windows, (0, after, None)):
        low = None if ahead is None else -ahead
        band = Region((Band(low, None if window is None else window - 1),))
        kept = Region((Band(0, None),), keys=(None, sink - 1))
        open_keys = Region(keys=(None, sink - 1))
        rows = Region(queries=(None, full + off - 1))
        yield Mask((band, kept))
        yield Mask((band, open_keys))
        yield Mask((band, open_keys, rows))
        yield Mask((band, rows))


def _leading(flags: Bools) -> int:
    return int(flags.argmin()) if not flags.all() else flags.size


def _trailing(flags: Bools) -> int:
    return _leading(flags[::-1])
