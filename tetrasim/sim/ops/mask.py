"""Which query-key pairs an attention mask leaves, as a structure that never lists them.

A `Mask` is a union of `Region`s; a region is a conjunction of conditions on a query's position p and a key's
position j. Queries are the last of the keys: p = i + kv_len - q_len for query i. In these terms
 - causal is p - j >= 0, a window of w keys 0 <= p - j < w, a two-sided one -w < p - j < w;
 - blocks of n tokens are p // n - j // n = 0, block-causal masks p // n - j // n >= 0;
 - packed documents are p and j between the same two of the documents' `starts`;
 - a dilated mask is (p - j) % stride = 0; sinks and prefixes are keys j < n; global rows are queries p < n.
A `Pattern` is what is kept of an arbitrary constant mask: the keys that each query sees, and the tiles of
64 queries x 128 keys that hold a visible pair. Both answer the same questions: pairs, keys by row, tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Span = tuple[int | None, int | None]  # from, to: both inclusive, None: open
QUERY_TILE, KEY_TILE = 64, 128  # granularity of `Pattern.occupied`
MOST_REGIONS = 6  # a union of n regions is counted over its 2^n - 1 intersections


@dataclass(frozen=True, slots=True)
class Band:
    """`low <= p // unit - j // unit <= high`; None: open."""

    low: int | None
    high: int | None
    unit: int = 1


@dataclass(frozen=True, slots=True)
class Region:
    """Pairs that meet every condition; `keys` and `queries` are spans of j and p, `starts` the first position
    of each document, ascending."""

    bands: tuple[Band, ...] = ()
    stride: int = 1
    keys: Span = (None, None)
    queries: Span = (None, None)
    starts: tuple[int, ...] = ()

    def both(self, other: Region) -> Region:
        """The pairs in both regions."""
        bands = {b.unit: b for b in self.bands}
        for band in other.bands:
            mine = bands.get(band.unit, Band(None, None, band.unit))
            low, high = _narrower((mine.low, mine.high), (band.low, band.high))
            bands[band.unit] = Band(low, high, band.unit)
        return Region(
            tuple(bands[unit] for unit in sorted(bands)),
            math.lcm(self.stride, other.stride),
            _narrower(self.keys, other.keys),
            _narrower(self.queries, other.queries),
            tuple(sorted({*self.starts, *other.starts})),
        )

    def spans(self, q_len: int, kv_len: int) -> tuple[Ints, Ints]:
        """First and last key of each query's row [q_len]; the last is before the first in an empty row."""
        p = np.arange(kv_len - q_len, kv_len, dtype=np.int64)
        first, last = np.zeros(q_len, np.int64), np.full(q_len, kv_len - 1, np.int64)
        for band in self.bands:
            own = p // band.unit
            if band.high is not None:
                first = np.maximum(first, (own - band.high) * band.unit)
            if band.low is not None:
                last = np.minimum(last, (own - band.low) * band.unit + band.unit - 1)
        if self.keys[0] is not None:
            first = np.maximum(first, self.keys[0])
        if self.keys[1] is not None:
            last = np.minimum(last, self.keys[1])
        if self.starts:
            edges = np.array([*self.starts, max(kv_len, self.starts[-1] + 1)], np.int64)
            mine = np.clip(np.searchsorted(edges, p, "right") - 1, 0, len(edges) - 2)
            first, last = np.maximum(first, edges[mine]), np.minimum(last, edges[mine + 1] - 1)
        low, high = self.queries
        outside = (p < (low if low is not None else p)) | (p > (high if high is not None else p))
        return first, np.where(outside, first - 1, last)

    def counts(self, q_len: int, kv_len: int) -> Ints:
        """Keys that each query sees [q_len]."""
        first, last = self.spans(q_len, kv_len)
        p = np.arange(kv_len - q_len, kv_len, dtype=np.int64)
        seen = (last - p) // self.stride - (first - 1 - p) // self.stride
        return np.maximum(np.where(last < first, 0, seen), 0)

    def dense(self, p: Ints, j: Ints) -> Bools:
        """[len(p), len(j)]: True where the pair is visible."""
        p, j = p[:, None], j[None, :]
        out = np.ones((p.size, j.size), bool)
        for band in self.bands:
            behind = p // band.unit - j // band.unit
            out &= behind >= band.low if band.low is not None else True
            out &= behind <= band.high if band.high is not None else True
        if self.stride > 1:
            out &= (p - j) % self.stride == 0
        for x, (low, high) in ((j, self.keys), (p, self.queries)):
            out &= x >= low if low is not None else True
            out &= x <= high if high is not None else True
        if self.starts:
            starts = np.array(self.starts)
            out &= np.searchsorted(starts, p, "right") == np.searchsorted(starts, j, "right")
        return out

    def __str__(self) -> str:
        words = [_between(_difference(b.unit), (b.low, b.high)) for b in self.bands]
        words += [f"(p-j)%{self.stride}=0"] if self.stride > 1 else []
        words += [_between(n, s) for n, s in (("j", self.keys), ("p", self.queries)) if s != (None, None)]
        words += [f"documents {','.join(map(str, self.starts))}"] if self.starts else []
        return " ".join(words) or "all"


def _difference(unit: int) -> str:
    return "p-j" if unit == 1 else f"p//{unit}-j//{unit}"


def _between(what: str, span: Span) -> str:
    low, high = span
    return f"{'' if low is None else f'{low}<='}{what}{'' if high is None else f'<={high}'}"


def _narrower(a: Span, b: Span) -> Span:
    lows = [x for x in (a[0], b[0]) if x is not None]
    highs = [x for x in (a[1], b[1]) if x is not None]
    return (max(lows) if lows else None), (min(highs) if highs else None)


@dataclass(frozen=True, slots=True)
class Mask:
    """Visible is what lies in any of the regions; an empty mask would hide everything and does not exist."""

    regions: tuple[Region, ...] = (Region(),)

    def counts(self, q_len: int, kv_len: int) -> Ints:
        """Keys that each query sees [q_len]."""
        return _counts(self, q_len, kv_len)

    def pairs(self, q_len: int, kv_len: int) -> int:
        """Query-key pairs that are visible."""
        return int(self.counts(q_len, kv_len).sum())

    def tiles(self, q_len: int, kv_len: int, rows: int, keys: int) -> Ints:
        """Per tile of `rows` queries: the tiles of `keys` keys that hold a visible pair."""
        return _tiles(self, q_len, kv_len, rows, keys)

    def dense(self, q_len: int, kv_len: int) -> Bools:
        """[q_len, kv_len]: True where the pair is visible."""
        p, j = np.arange(kv_len - q_len, kv_len), np.arange(kv_len)
        return np.asarray(np.any([r.dense(p, j) for r in self.regions], axis=0))

    @property
    def is_causal(self) -> bool:
        """Whether no query sees a key behind it."""
        return all(
            any(b.unit == 1 and b.low is not None and b.low >= 0 for b in r.bands) for r in self.regions
        )

    def keys_touched(self, q_len: int, kv_len: int) -> int:
        """Keys that any query sees; those between two that one query sees count."""
        change = np.zeros(kv_len + 1, np.int64)
        for region in self.regions:
            first, last = region.spans(q_len, kv_len)
            some = last >= first
            np.add.at(change, first[some], 1)
            np.add.at(change, last[some] + 1, -1)
        spanned = int((np.cumsum(change[:-1]) > 0).sum())
        return min(spanned, int(self.counts(1, kv_len)[0])) if q_len == 1 else spanned

    @property
    def stride(self) -> int:
        """The dilation that all of the mask has; 1: none."""
        return self.regions[0].stride if len(self.regions) == 1 else 1

    def packed(self) -> Mask | None:
        """The mask within each class of positions modulo its stride, when tokens are sorted by class: bands
        in units of the stride. None when it has conditions that do not carry over."""
        only = self.regions[0]
        plain = all(b.unit == 1 for b in only.bands) and not only.starts
        if self.stride == 1 or not plain or only.keys != (None, None) or only.queries != (None, None):
            return None
        s = only.stride
        bands = (
            Band(None if b.low is None else -(-b.low // s), None if b.high is None else b.high // s)
            for b in only.bands
        )
        return Mask((replace(only, bands=tuple(bands), stride=1),))

    def to_attr(self) -> tuple[str, ...]:
        """As the attribute `mask` of an Attention node; `mask_of` reads it back."""
        return tuple(map(str, self.regions))


@lru_cache(maxsize=256)
def _counts(mask: Mask, q_len: int, kv_len: int) -> Ints:
    total = np.zeros(q_len, np.int64)
    for size in range(1, len(mask.regions) + 1):
        for some in combinations(mask.regions, size):
            joint = some[0]
            for region in some[1:]:
                joint = joint.both(region)
            total += (1 if size % 2 else -1) * joint.counts(q_len, kv_len)
    return total


@lru_cache(maxsize=256)
def _tiles(mask: Mask, q_len: int, kv_len: int, rows: int, keys: int) -> Ints:
    starts = np.arange(0, q_len, rows)
    spans: list[tuple[Ints, Ints]] = []
    for region in mask.regions:
        first, last = region.spans(q_len, kv_len)
        empty = region.counts(q_len, kv_len) == 0
        first = np.minimum.reduceat(np.where(empty, kv_len, first), starts) // keys
        last = np.maximum.reduceat(np.where(empty, -1, last), starts)
        spans.append((first, np.where(last < 0, first - 1, last // keys)))
    firsts, lasts = (np.stack(side, axis=1) for side in zip(*spans, strict=True))
    order = np.argsort(firsts, axis=1)
    firsts, lasts = np.take_along_axis(firsts, order, 1), np.take_along_axis(lasts, order, 1)
    covered = np.full(len(starts), -1, np.int64)  # last key tile that is counted
    total = np.zeros(len(starts), np.int64)
    for at in range(firsts.shape[1]):
        new = np.maximum(firsts[:, at], covered + 1)
        total += np.maximum(lasts[:, at] - new + 1, 0)
        covered = np.maximum(covered, lasts[:, at])
    return total


@dataclass(frozen=True, slots=True)
class Pattern:
    """An arbitrary constant mask of [q_len, kv_len]: `seen` holds the keys that each query sees (int32),
    `occupied` one bit per tile of 64 queries x 128 keys, row by row."""

    q_len: int
    kv_len: int
    seen: bytes
    occupied: bytes

    def counts(self, q_len: int, kv_len: int) -> Ints:
        """As `Mask.counts`; the mask has the one size that it was read with."""
        self._check(q_len, kv_len)
        return np.frombuffer(self.seen, np.int32).astype(np.int64)

    def pairs(self, q_len: int, kv_len: int) -> int:
        return int(self.counts(q_len, kv_len).sum())

    def tiles(self, q_len: int, kv_len: int, rows: int, keys: int) -> Ints:
        """As `Mask.tiles`, for tiles that are multiples of 64 x 128 (or hold all queries)."""
        self._check(q_len, kv_len)
        shape = (-(-q_len // QUERY_TILE), -(-kv_len // KEY_TILE))
        bits = np.unpackbits(np.frombuffer(self.occupied, np.uint8), count=shape[0] * shape[1])
        occupied = bits.reshape(shape).astype(bool)
        down = np.logical_or.reduceat(occupied, np.arange(0, shape[0], max(rows // QUERY_TILE, 1)), axis=0)
        across = np.logical_or.reduceat(down, np.arange(0, shape[1], max(keys // KEY_TILE, 1)), axis=1)
        return np.asarray(across.sum(axis=1), np.int64)

    is_causal = False
    stride = 1

    def keys_touched(self, q_len: int, kv_len: int) -> int:
        """As `Mask.keys_touched`; known for a single query only."""
        return int(self.counts(q_len, kv_len)[0]) if q_len == 1 else kv_len

    def packed(self) -> None:
        """An arbitrary mask has no classes of positions."""

    def _check(self, q_len: int, kv_len: int) -> None:
        if (q_len, kv_len) != (self.q_len, self.kv_len):
            raise ValueError(f"a mask of {self.q_len} x {self.kv_len} for {q_len} x {kv_len}")


def pattern_of(visible: Bools) -> Pattern:
    """The pattern of a mask [q_len, kv_len] that is True where a pair is visible."""
    q_len, kv_len = visible.shape
    down = np.logical_or.reduceat(visible, np.arange(0, q_len, QUERY_TILE), axis=0)
    tiles = np.logical_or.reduceat(down, np.arange(0, kv_len, KEY_TILE), axis=1)
    seen = visible.sum(axis=1).astype(np.int32)
    return Pattern(q_len, kv_len, seen.tobytes(), np.packbits(tiles.reshape(-1)).tobytes())


FULL = Mask()
CAUSAL = Mask((Region((Band(0, None),)),))


def window_mask(before: int, after: int | None = 0) -> Mask:
    """The last `before` keys up to and with the query's own, and `after` keys behind it (None: all)."""
    return Mask((Region((Band(None if after is None else -after, before - 1),)),))


def simplified(regions: Iterable[Region]) -> tuple[Region, ...]:
    """Without empty regions and those that lie in another one; two that differ in one band whose ends meet
    become one."""
    kept = [r for r in dict.fromkeys(regions) if not _is_empty(r)]
    kept = [r for r in kept if not any(o is not r and r.both(o) == r for o in kept)]
    for a, b in combinations(kept, 2):
        joint = _joined(a, b)
        if joint is not None:
            return simplified((joint, *(r for r in kept if r is not a and r is not b)))
    return tuple(kept)


def _joined(a: Region, b: Region) -> Region | None:
    """The union of two regions, where it is a region."""
    units = [band.unit for band in a.bands]
    if replace(a, bands=()) != replace(b, bands=()) or units != [band.unit for band in b.bands]:
        return None
    differ = [i for i, (x, y) in enumerate(zip(a.bands, b.bands, strict=True)) if x != y]
    if len(differ) != 1:
        return None
    at = differ[0]
    first, second = sorted((a.bands[at], b.bands[at]), key=lambda x: (x.low is not None, x.low or 0))
    if first.high is not None and (second.low is None or second.low > first.high + 1):
        return None
    high = None if None in (first.high, second.high) else max(first.high or 0, second.high or 0)
    band = Band(first.low, high, first.unit)
    return replace(a, bands=(*a.bands[:at], band, *a.bands[at + 1 :]))


def _is_empty(region: Region) -> bool:
    spans = [region.keys, region.queries, *((b.low, b.high) for b in region.bands)]
    return any(a is not None and b is not None and a > b for a, b in spans)


@lru_cache(maxsize=256)
def mask_of(attr: Sequence[str]) -> Mask:
    """The mask of an Attention node's attribute `mask`.

    Raises:
        ValueError: it is no such text.
    """
    return Mask(tuple(_region(text) for text in attr))


def _region(text: str) -> Region:
    region = Region()
    words: Iterator[str] = iter(text.split())
    for word in words:
        if word == "documents":
            region = replace(region, starts=tuple(int(x) for x in next(words).split(",")))
        elif word.startswith("(p-j)%"):
            region = replace(region, stride=int(word[6:].removesuffix("=0")))
        elif word != "all":
            region = region.both(_condition(word))
    return region


def _condition(word: str) -> Region:
    parts = word.split("<=")
    at = next(i for i, part in enumerate(parts) if part[0] in "pj")
    low = int(parts[0]) if at else None
    high = int(parts[at + 1]) if at + 1 < len(parts) else None
    what = parts[at]
    if what == "j":
        return Region(keys=(low, high))
    if what == "p":
        return Region(queries=(low, high))
    unit = int(what.split("//")[-1]) if "//" in what else 1
    return Region((Band(low, high, unit),))
