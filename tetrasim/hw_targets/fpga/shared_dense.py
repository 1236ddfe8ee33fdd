"""Fabric of hls4ml's dense layer in Resource strategy with reuse above its inputs, from its kernel's
structure.

The kernel (nnet_dense_resource.h, "rf_gt_nin_rem0", github:fastmachinelearning/hls4ml) walks `reuse` words of
a weight memory. Each step multiplies one input by the weights of m = n_in * n_out / reuse lanes and adds them
to m of the n_out accumulators; lane i chooses among reuse / n_in neighbouring ones. High-level synthesis
gives it
- a multiplexer over the inputs, and address logic: LUT = a + b * n_in + c * log2(reuse);
- a multiplier per lane: a DSP from 5 bits on;
- in front of each lane a multiplexer over *all* accumulators (the choice among neighbours is not recognised),
  of 16 bits and as deep as the next power of two, unless there are just two neighbours;
- registers of the accumulators, and of each lane's operands;
- a block RAM layout of the weights, and a table of accumulator addresses once that has 1,024 bits.
Coefficients are fitted to the rows; the structure makes them hold for shapes, widths and reuse factors that
the fit has not seen (`validate.py` leaves each out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, log2

from tetrasim.hw_targets.fpga.dense_rows import DenseLayer, DenseRow, shared_rows
from tetrasim.hw_targets.fpga.regression import Linear, fit_relative

DATA_BITS = 16  # inputs and accumulators of the rows
LUT_PRODUCT_BITS = 4  # up to here Vivado HLS multiplies in LUTs
ADDRESS_TABLE_BITS = 1024  # a smaller table becomes LUTs
MULTIPLEXER_LUT = {128: 41.0, 256: 84.0}  # per bit, read off the rows: differences between lane counts
BLOCK_SHAPES = ((36, 512), (18, 1024), (9, 2048))  # BRAM18 aspect ratios


@dataclass(frozen=True, eq=False)
class SharedModel:
    """Fitted coefficients."""

    lut: Linear
    ff: Linear


def lanes(d: DenseLayer) -> int:
    """Weights read per step."""
    return ceil(d.products / d.reuse)


def neighbours(d: DenseLayer) -> int:
    """Accumulators that one lane serves."""
    return max(d.reuse // d.n_in, 1)


def multiplexer_lut(inputs: int) -> float:
    """LUT6 per bit of an n-way multiplexer as the tool charges it: four inputs per LUT up to 64 (the next
    levels are the slice's own multiplexers), from there more; beyond 256 twice that for twice the inputs
    (inferred)."""
    n = 1 << ceil(log2(max(inputs, 2)))
    if n <= 64:
        return ceil(n / 4)
    return MULTIPLEXER_LUT[n] if n in MULTIPLEXER_LUT else 84.0 * n / 256


def lut_features(d: DenseLayer) -> list[float]:
    """Per coefficient: constant, inputs, accumulators (twice in the single-lane kernel), address bits, lanes
    with DSP, without, multiplexer LUTs."""
    m, wide = lanes(d), d.bits > LUT_PRODUCT_BITS
    mux = DATA_BITS * multiplexer_lut(d.n_out) * m if neighbours(d) > 2 else 0
    return [1, d.n_in, d.n_out * (1 + (m == 1)), log2(d.reuse), m * wide, m * (not wide), mux]


def ff_features(d: DenseLayer) -> list[float]:
    """Constant, accumulators (twice in the single-lane kernel), lane registers (DSP operands; weights alone
    where nothing is multiplexed; operands of products in LUTs)."""
    m, wide, muxed = lanes(d), d.bits > LUT_PRODUCT_BITS, neighbours(d) > 2
    return [
        1,
        d.n_out * (1 + (m == 1)),
        m * (wide and muxed),
        m * d.bits * (wide and not muxed),
        m * d.bits * (muxed and not wide),
    ]


def dsp_of(d: DenseLayer) -> int:
    """A DSP per lane from 5 bits on; at 5 and 6 bits with 64 inputs or more the top lane's weights are narrow
    enough for LUTs (every 6-bit row says so; 5 bits inferred)."""
    if d.bits <= LUT_PRODUCT_BITS:
        return 0
    return lanes(d) - int(d.bits <= 6 and d.n_in >= 64)


def bram18_of(d: DenseLayer) -> int:
    """Weights in the best aspect ratio, plus the table of accumulator addresses."""
    width = lanes(d) * d.bits
    weights = min(ceil(width / w) * ceil(d.reuse / words) for w, words in BLOCK_SHAPES)
    table = d.reuse * ceil(log2(neighbours(d))) >= ADDRESS_TABLE_BITS
    return weights + int(table)


def train_shared(training: Sequence[DenseRow]) -> SharedModel:
    """Coefficients from `training`."""
    layers = [r.layer for r in training]
    return SharedModel(
        fit_relative([lut_features(d) for d in layers], [r.lut for r in training]),
        fit_relative([ff_features(d) for d in layers], [r.ff for r in training]),
    )


@cache
def shared_model() -> SharedModel:
    """Fitted to all committed rows."""
    return train_shared(shared_rows())


def shared_fabric(d: DenseLayer, model: SharedModel) -> tuple[float, float, float, float]:
    """LUT, FF, DSP, BRAM18."""
    lut, ff = model.lut.predict(lut_features(d)), model.ff.predict(ff_features(d))
    return max(round(lut), 0), max(round(ff), 0), dsp_of(d), bram18_of(d)
