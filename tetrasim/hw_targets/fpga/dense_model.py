"""Fabric and timing of hls4ml's dense layer in Resource strategy, fitted to synthesised rows.

`data/dense_csynth.csv` holds Vivado HLS csynth results (VU13P, 5 ns; github:Dendendelen/wa-hls4ml-search,
results/results_resource.csv and results_latency.csv; numbers only). Interval and latency are laws; DSP and
BRAM are a
structural law times (plus) a correction, LUT and FF a correction on powers of the structure. Corrections
are boosted
trees, fitted when first needed (about 0.1 s). LUTs are bimodal: a remainder by n_in that is no power of two
brings in
divider cores, which is why the arithmetic of reuse and n_in is among the features.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, log2, sqrt
from pathlib import Path

import numpy as np

from tetrasim.hw_targets.fpga.boosting import Boosted, Floats, fit
from tetrasim.hw_targets.fpga.resources import shared_products
from tetrasim.hw_targets.fpga.timing import dense_stages

ROWS = Path(__file__).parent / "data" / "dense_csynth.csv"
TARGETS = ("lut", "ff", "dsp", "bram18")
# share of products that keep their DSP under reuse, by bits: mean of the rows (fpga validation); 0 up to 4
# bits
DSP_SHARE = {2: 0.0, 4: 0.0, 6: 0.91, 8: 0.97, 10: 0.985, 12: 0.994, 14: 0.998}


@dataclass(frozen=True, slots=True)
class DenseRow:
    """One synthesised dense layer."""

    strategy: str
    n_in: int
    n_out: int
    bits: int
    reuse: int
    latency_min: int
    latency_max: int
    interval: int
    lut: int
    ff: int
    dsp: int
    bram18: int


@dataclass(frozen=True, slots=True)
class DenseEstimate:
    """Prediction for one layer; `in_domain` False: outside the fitted rows, from laws alone."""

    interval: int
    latency: int
    lut: float
    ff: float
    dsp: float
    bram18: float
    in_domain: bool


@cache
def rows() -> tuple[DenseRow, ...]:
    """All committed rows."""
    with ROWS.open(newline="") as file:
        return tuple(DenseRow(r["strategy"], *(int(r[k]) for k in list(r)[1:])) for r in csv.DictReader(file))


def resource_rows() -> tuple[DenseRow, ...]:
    """Rows of the Resource strategy: the fit's domain."""
    return tuple(r for r in rows() if r.strategy == "resource")


def in_domain(n_in: int, n_out: int, bits: int, reuse: int) -> bool:
    """Whether the fitted rows surround this layer."""
    inside = 32 <= n_in <= 256 and 32 <= n_out <= 256 and 2 <= bits <= 14
    small = reuse == 1 and n_in * n_out <= 3072
    return inside and (small or 384 <= reuse <= 1280)


def interval_of(n_in: int, n_out: int, bits: int, reuse: int) -> int:
    """Cycles between rows: the reuse factor; the unrolled kernel needs two unless it is combinational."""
    if reuse > 1:
        return reuse
    return 2 if latency_of(n_in, n_out, bits, 1) > 0 else 1


def latency_of(n_in: int, n_out: int, bits: int, reuse: int) -> int:
    """Worst-case cycles."""
    if reuse > 1:
        return reuse + 2
    return max(dense_stages(n_in, bits, 5.0) - 1, int(n_in * n_out > 3072))


def features(n_in: int, n_out: int, bits: int, reuse: int) -> list[float]:
    """What the trees see: sizes, multipliers, and the arithmetic that decides about divider cores."""
    products = n_in * n_out / reuse
    return [
        n_in,
        n_out,
        bits,
        reuse,
        products,
        products * bits,
        n_in * bits,
        n_out * bits,
        reuse / n_in,
        n_in / reuse,
        float(n_in & (n_in - 1) == 0),
        float(reuse % n_in == 0),
        n_out * reuse / (n_in * n_out),
        log2(n_in),
        log2(reuse),
        float(reuse & (reuse - 1) == 0),
        n_in * n_out,
        ceil(products * bits / 36) * ceil(reuse / 512),
        (products * bits) % 36,
    ]


def structure(target: str, n_in: int, n_out: int, bits: int, reuse: int) -> float:
    """The law that a correction starts from."""
    products = n_in * n_out / reuse
    if target == "dsp":
        points = sorted(DSP_SHARE)
        return float(products) * float(np.interp(bits, points, [DSP_SHARE[b] for b in points]))
    if target == "bram18":
        return 0.0 if reuse == 1 else float(ceil(products * bits / 36) * ceil(reuse / 512))
    if target == "ff":
        return 6.0 * n_out * sqrt(sqrt(bits)) + n_in + products * bits
    return 100.0 * n_out + products * bits * (4.0 if reuse > 1 else 3.5)


def _outcome(target: str, measured: Floats, law: Floats) -> Floats:
    """What is fitted: BRAM and a DSP-free layer as differences, the others as logarithms of ratios."""
    if target == "bram18":
        return measured - law
    return np.asarray(np.log((measured + 1.0) / (law + 1.0)))


def train(target: str, training: tuple[DenseRow, ...]) -> Boosted:
    """The correction of one target."""
    x = np.array([features(r.n_in, r.n_out, r.bits, r.reuse) for r in training])
    law = np.array([structure(target, r.n_in, r.n_out, r.bits, r.reuse) for r in training])
    measured = np.array([getattr(r, target) for r in training], np.float64)
    return fit(x, _outcome(target, measured, law))


def predict(model: Boosted, target: str, n_in: int, n_out: int, bits: int, reuse: int) -> float:
    """The corrected law, rounded to whole blocks."""
    law = structure(target, n_in, n_out, bits, reuse)
    correction = float(model.predict(np.array([features(n_in, n_out, bits, reuse)]))[0])
    if target == "bram18":
        return max(round(law + correction), 0)
    return max(round((law + 1.0) * float(np.exp(correction)) - 1.0), 0)


@cache
def models() -> dict[str, Boosted]:
    """Corrections fitted to all committed rows."""
    return {target: train(target, resource_rows()) for target in TARGETS}


@lru_cache(maxsize=1 << 14)
def estimate_dense(n_in: int, n_out: int, bits: int, reuse: int) -> DenseEstimate:
    """Timing and fabric of one dense layer (Resource strategy, 5 ns class parts)."""
    inside = in_domain(n_in, n_out, bits, reuse)
    if inside:
        numbers = {t: predict(models()[t], t, n_in, n_out, bits, reuse) for t in TARGETS}
    else:
        law = shared_products(float(n_in * n_out), reuse, n_in, n_out, bits, bits)
        numbers = {"lut": law.lut, "ff": law.ff, "dsp": law.dsp, "bram18": law.bram18}
    timing = (interval_of(n_in, n_out, bits, reuse), latency_of(n_in, n_out, bits, reuse))
    return DenseEstimate(*timing, numbers["lut"], numbers["ff"], numbers["dsp"], numbers["bram18"], inside)
