"""How a PIM system rounds: in-bank dot products and the host unit's series.

A MAC unit multiplies 16 pairs exactly, adds them in a binary tree and accumulates over column accesses in
float32; the result leaves the bank in the storage format. Inputs wider than the buffer give one partial sum
per chunk, each rounded when it is read, added by the host in float32. HBM-PIM has no tree: each lane
accumulates by itself in float16 and the host adds the lanes.

The host's functions are PIM-GPT's: exp by Taylor's series after range reduction by powers of two, 1/x by
Newton-Raphson from a linear seed, 1/sqrt(x) by the fast inverse square root with Newton steps, and erf by
Taylor's series where the configuration gives it terms; GELU then goes through that series in either form.

AiM's activation tables hold value and slope of every interval in bfloat16; an argument is rounded to
bfloat16, looked up and interpolated, and beyond the table the function continues as a straight line. (That
a table lies in a row of the bank is published, its intervals and the interpolation are from memory.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.hw_targets.pim.config import Dialect, PimConfig, precision_of
from tetrasim.hw_targets.pim.items import TABLES
from tetrasim.sim.ir.graph import TensorType
from tetrasim.sim.ops.rounding import exact_function, format_type, round_to, stored

Arr = NDArray[Any]
_LN2 = np.float32(0.6931471805599453)
_LARGE = np.float32(3e38)
_MAGIC = np.int32(0x5F3759DF)  # fast inverse square root, Quake III


@dataclass(frozen=True)
class PimArithmetic:
    """`Arithmetic` of one system."""

    storage: TensorType
    inputs: int
    lanes: int
    tree: bool
    exp_terms: int
    reciprocal_steps: int
    rsqrt_steps: int
    erf_terms: int = 0
    table_intervals: int = 0  # 0: the host computes activations
    table_limit: float = 8.0

    def store(self, x: Arr, type: TensorType) -> Arr:
        """Round to the memory format of `type`."""
        return stored(x, type)

    def matmul(self, a: Arr, b: Arr) -> Arr:
        """Chunked dot products in the unit's accumulation order."""
        a32, b32 = (round_to(np.asarray(x, dtype=np.float32), self.storage) for x in (a, b))
        depth = a32.shape[-1]
        total: Arr | None = None
        for start in range(0, depth, self.inputs):
            part = self._chunk(
                a32[..., start : start + self.inputs], b32[..., start : start + self.inputs, :]
            )
            part = round_to(part, self.storage)
            total = part if total is None else np.asarray(total + part)
        return np.asarray(total if total is not None else np.matmul(a32, b32))

    def _chunk(self, a: Arr, b: Arr) -> Arr:
        if self.tree:
            # float32 sums of one chunk: BLAS order differs from the tree by float32 rounding only, far
            # below the storage format's
            return np.asarray(np.matmul(a, b))
        lanes: list[Arr] = []
        for lane in range(min(self.lanes, a.shape[-1])):
            product = np.matmul(a[..., lane :: self.lanes], b[..., lane :: self.lanes, :])
            lanes.append(round_to(np.asarray(product), self.storage))
        return np.asarray(np.sum(np.stack(lanes), axis=0, dtype=np.float32))

    def function(self, name: str, x: Arr) -> Arr:
        """The host unit's approximation of `name`; logarithms and angles are taken as exact."""
        y = np.asarray(x, dtype=np.float32)
        with np.errstate(all="ignore"):
            if name == "exp":
                return self.exp(y)
            if name == "reciprocal":
                return self.reciprocal(y)
            if name == "rsqrt":
                return self.rsqrt(y)
            if name == "sqrt":
                return np.where(y > 0, y * self.rsqrt(y), y).astype(np.float32)
            if name == "erf" and self.erf_terms:
                return self.erf(y)
            if name == "tanh":
                bounded = np.clip(y, -20, 20)
                return (1 - 2 * self.reciprocal(self.exp(2 * bounded) + 1)).astype(np.float32)
        return exact_function(name, y)

    def activation(self, op: str, exact: Callable[[Arr], Arr], x: Arr) -> Arr | None:
        """An activation by AiM's table, or GELU by the host's series; None: by its formula."""
        if self.table_intervals and op in TABLES:
            return self._looked_up(exact, np.asarray(x, dtype=np.float32))
        if op == "Gelu" and self.erf_terms:
            y = np.asarray(x, dtype=np.float32)
            return np.asarray(y * np.float32(0.5) * (1 + self.erf(y * np.float32(math.sqrt(0.5)))))
        return None

    def _looked_up(self, exact: Callable[[Arr], Arr], x: Arr) -> Arr:
        """Value and slope of the interval that `x` falls in; beyond the table, the line through the function
        at its limit and at twice that."""
        limit, count = np.float32(self.table_limit), self.table_intervals
        step = 2 * limit / np.float32(count)
        nodes = np.linspace(-limit, limit, count + 1, dtype=np.float32)
        nodes = np.concatenate([[-2 * limit], nodes, [2 * limit]]).astype(np.float32)
        values = np.asarray(exact(nodes), dtype=np.float32)
        slopes = round_to(np.diff(values) / np.diff(nodes), self.storage)
        start = nodes[:-1].copy()
        start[0] = nodes[1]  # the line below the table starts at the table
        base = values[:-1].copy()
        base[0] = values[1]
        given = np.clip(round_to(x, self.storage), -_LARGE, _LARGE)  # no infinity times a slope of 0
        with np.errstate(invalid="ignore", over="ignore"):
            place = np.floor((given + limit) / step) + 1
        at = np.clip(np.nan_to_num(place), 0, count + 1).astype(np.int64)
        return round_to(
            np.asarray(round_to(base, self.storage)[at] + slopes[at] * (given - start[at])), self.storage
        )

    def exp(self, x: Arr) -> Arr:
        """2**k times Taylor's series of the remainder, `exp_terms` multiply-adds."""
        k = np.rint(np.clip(x, -150, 150) / _LN2)
        r = np.clip(x, -150, 150) - k * _LN2
        series = np.ones_like(r)
        for n in range(self.exp_terms, 0, -1):
            series = 1 + series * r / np.float32(n)
        out = np.ldexp(series, k.astype(np.int32))
        return np.where(np.isnan(x), x, np.where(x < -150, 0, np.where(x > 150, np.inf, out))).astype(
            np.float32
        )

    def erf(self, x: Arr) -> Arr:
        """2 / sqrt(pi) x sum (-x x)**n / (n! (2n + 1)), saturated at 1 where that is nearer."""
        limit = _erf_limit(self.erf_terms)
        series = _erf_series(np.clip(x, -limit, limit), self.erf_terms)
        return np.where(np.abs(x) > limit, np.sign(x), np.clip(series, -1, 1)).astype(np.float32)

    def reciprocal(self, x: Arr) -> Arr:
        """Newton-Raphson on the mantissa, seeded by 48/17 - 32/17 m."""
        mantissa, exponent = np.frexp(np.abs(x))
        guess = (np.float32(48 / 17) - np.float32(32 / 17) * mantissa).astype(np.float32)
        for _ in range(self.reciprocal_steps):
            guess = guess * (2 - mantissa * guess)
        out = np.copysign(np.ldexp(guess, -exponent), x)
        return np.where((x == 0) | ~np.isfinite(x), 1 / x, out).astype(np.float32)

    def rsqrt(self, x: Arr) -> Arr:
        """Fast inverse square root."""
        seed = (_MAGIC - (np.asarray(x, dtype=np.float32, order="C").view(np.int32) >> 1)).view(np.float32)
        guess = seed
        for _ in range(self.rsqrt_steps):
            guess = guess * (np.float32(1.5) - np.float32(0.5) * x * guess * guess)
        return np.where((x > 0) & np.isfinite(x), guess, 1 / np.sqrt(x)).astype(np.float32)


def _erf_series(x: Arr, terms: int) -> Arr:
    square = x * x
    total = np.zeros_like(x)
    for n in range(terms, -1, -1):
        total = total * square + np.float32((-1) ** n / (math.factorial(n) * (2 * n + 1)))
    return np.asarray(np.float32(2 / math.sqrt(math.pi)) * x * total)


@lru_cache(maxsize=32)
def _erf_limit(terms: int) -> float:
    """Where the truncated series is as far from erf as 1 is."""
    x = np.linspace(0, 4, 4001, dtype=np.float32)
    exact = np.array([math.erf(v) for v in x.tolist()])
    return float(x[np.argmax(np.abs(_erf_series(x, terms) - exact) > 1 - exact + 1e-7)])


def arithmetic_of(config: PimConfig) -> PimArithmetic:
    """The arithmetic of a configuration."""
    return PimArithmetic(
        format_type(precision_of(config).weights),
        config.units.inputs,
        config.units.lanes,
        config.dialect is Dialect.AIM,
        config.host.exp_terms,
        config.host.reciprocal_steps,
        config.host.rsqrt_steps,
        config.host.erf_terms,
        config.table_intervals if config.activations == "banks" and config.dialect is Dialect.AIM else 0,
        config.table_limit,
    )
