"""Fabric and timing of hls4ml's dense layer as constant products: reuse 1, or Latency strategy at any reuse.

Every weight is a constant of the design, so what it costs depends on its digits. Written in canonical signed
digits, a weight of one digit is a shift, of two digits one adder, and from three digits on Vivado HLS takes a
DSP (rows up to 6 bits have none: weights drawn within the Glorot bound of their layer, sqrt(6 / (n_in +
n_out)), reach no third digit there). `dsp_share` counts that without synthesis. With reuse above 1 the
DSPs are limited (`dsp_limit`) and the products take turns on them: the latency is products over limit.

On top of the digit counts, a few coefficients per quantity are fitted to the rows (`regression.py`); rows of
one shape and width carry the same random weights and share a group effect. Weights of another distribution
move DSP and LUT: use `hls4ml`'s own report for a final number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, exp, floor, log, log2, sqrt

from tetrasim.hw_targets.fpga.dense_rows import DenseLayer, DenseRow, unrolled_rows
from tetrasim.hw_targets.fpga.regression import Linear, fit_grouped, hats
from tetrasim.hw_targets.fpga.timing import dense_stages

NARROW, MIDDLE, WIDE = (2, 4), (4, 6, 8), (8, 10)  # widths where a size matters more, as knots
CLOCK_NS = 5.0  # of the rows
DATA_BITS = 16  # of inputs and outputs
DSP_DIGITS = 3
LONGEST_TURN = 1023  # a reuse factor of 1,024 is limited as if it were one less (all such rows)
SPREAD = (
    0.3  # noise over group effects, variances: `validate.py` prints the error on rows and shapes left out
)
OUTPUT_LUT, OUTPUT_LUT_BASE = 9, 26  # multiplexers of the output registers, which reuse above 1 does without


def digits(weight: int) -> int:
    """Non-zero canonical signed digits."""
    left, count = abs(weight), 0
    while left:
        if left & 1:
            left -= 2 - (left & 3)
            count += 1
        left >>= 1
    return count


@cache
def dsp_share(n_in: int, n_out: int, bits: int) -> float:
    """Share of weights of three digits and more: uniform within the Glorot bound, floored to `bits`, one of
    them before the point."""
    bound = sqrt(6 / (n_in + n_out)) * (1 << (bits - 1))
    whole = range(floor(-bound), floor(bound) + 1)
    return sum((min(v + 1, bound) - max(v, -bound)) / (2 * bound) for v in whole if digits(v) >= DSP_DIGITS)


def depth_of(d: DenseLayer) -> int:
    """Register stages of the unrolled tree at reuse 1."""
    widest = 3072 if d.strategy == "resource" else 2048
    return max(dense_stages(d.n_in, d.bits, CLOCK_NS) - 1, int(d.products > widest))


def dsp_limit(d: DenseLayer) -> int:
    """DSPs that the products share in Latency strategy with reuse above 1."""
    return ceil(d.products / min(d.reuse, LONGEST_TURN))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fit whose widths are joined by straight lines between the `knots` that its rows had."""

    knots: tuple[int, ...]
    features: Callable[[DenseLayer, Sequence[int]], list[float]]
    linear: Linear

    def at(self, d: DenseLayer) -> float:
        """The fitted quantity."""
        return self.linear.predict(self.features(d, self.knots), _group(d))


@dataclass(frozen=True, eq=False)
class UnrolledModel:
    """Fitted coefficients; each `ff` is for one way of pipelining."""

    share: Fitted
    lut: Fitted
    ff_pipelined: Fitted
    ff_turns: Fitted
    ff_resource: Fitted
    ff_resource_dsp: Fitted


def _sizes(d: DenseLayer) -> tuple[float, float]:
    return log2(d.n_in / 32), log2(d.n_out / 32)


def _turns(d: DenseLayer) -> bool:
    """Whether products take turns on a limited number of DSPs."""
    return d.reuse > 1 and dsp_share(d.n_in, d.n_out, d.bits) > 0


def _group(d: DenseLayer) -> tuple[int, int, int]:
    return d.n_in, d.n_out, d.bits


def share_features(d: DenseLayer, knots: Sequence[int]) -> list[float]:
    """Of the share's logit: width, sizes where equal weights merge (narrow ones), merging across turns."""
    rows, columns = _sizes(d)
    narrow = hats(d.bits, WIDE)[0]
    merged = [narrow * rows, narrow * columns, (rows + columns) * (1 - narrow), narrow * (d.reuse > 1)]
    return [*hats(d.bits, knots), *merged]


def lut_features(d: DenseLayer, knots: Sequence[int]) -> list[float]:
    """Of the logarithm of LUT per product: width, sizes, the strategy's registers, turns."""
    rows, columns = _sizes(d)
    narrow, middle = hats(d.bits, NARROW)[0], hats(d.bits, MIDDLE)[1]
    wide, tilt = float(d.bits >= WIDE[0]), (d.bits - WIDE[0]) / 6
    resource, turns = wide * (d.strategy == "resource"), wide * (d.reuse > 1)
    sizes = [columns, columns * middle, rows, rows * narrow, rows * tilt * (1 - narrow)]
    return [*hats(d.bits, knots), *sizes, resource, resource * tilt, turns, turns * tilt]


def width_features(d: DenseLayer, knots: Sequence[int]) -> list[float]:
    """Width and sizes."""
    return [*hats(d.bits, knots), *_sizes(d)]


def input_features(d: DenseLayer, _knots: Sequence[int]) -> list[float]:
    """Inputs alone."""
    return [1.0, _sizes(d)[0]]


def outputs_freed(d: DenseLayer) -> int:
    """LUT that output multiplexers do not take when the layer is not pipelined."""
    freed = d.reuse > 1 and not _turns(d) and depth_of(d) > 0
    return OUTPUT_LUT * d.n_out - OUTPUT_LUT_BASE if freed else 0


def _logit(share: float) -> float:
    return log(share / (1 - share))


def _turn_products(r: DenseRow) -> float:
    """Products that went through DSPs, from the latency they took."""
    return r.dsp if r.layer.reuse == 1 else (r.latency_max - 1.5) * dsp_limit(r.layer)


def _fit(
    rows: Sequence[DenseRow],
    features: Callable[[DenseLayer, Sequence[int]], list[float]],
    value: Callable[[DenseRow], float],
) -> Fitted:
    layers = [r.layer for r in rows]
    knots = tuple(sorted({d.bits for d in layers}))
    x = [features(d, knots) for d in layers]
    linear = fit_grouped(x, [value(r) for r in rows], [_group(d) for d in layers], spread=SPREAD)
    return Fitted(knots, features, linear)


def train_unrolled(training: Sequence[DenseRow]) -> UnrolledModel:
    """Coefficients from `training`."""

    def excess(r: DenseRow) -> float:
        d = r.layer
        return _logit(_turn_products(r) / d.products) - _logit(dsp_share(d.n_in, d.n_out, d.bits))

    latency = [r for r in training if r.layer.strategy == "latency"]
    turns = [r for r in latency if _turns(r.layer)]
    pipelined = [r for r in latency if not _turns(r.layer) and depth_of(r.layer) > 0]
    resource = [r for r in training if r.layer.strategy == "resource" and depth_of(r.layer) > 0]
    narrow = _fit([r for r in resource if r.dsp == 0], input_features, lambda r: log(r.ff / r.layer.n_out))
    return UnrolledModel(
        share=_fit([r for r in training if r.dsp > 0], share_features, excess),
        lut=_fit(training, lut_features, lambda r: log((r.lut + outputs_freed(r.layer)) / r.layer.products)),
        ff_pipelined=_fit(
            pipelined, width_features, lambda r: log((r.ff - kept_ff(r.layer)) / r.layer.n_out)
        ),
        ff_turns=_fit(turns, width_features, lambda r: log(r.ff / r.layer.products)),
        ff_resource=narrow,
        ff_resource_dsp=_fit(
            [r for r in resource if r.dsp > 0],
            width_features,
            lambda r: log((r.ff - r.layer.n_out * exp(narrow.at(r.layer))) / r.dsp),
        ),
    )


@cache
def unrolled_model() -> UnrolledModel:
    """Fitted to all committed rows."""
    return train_unrolled(unrolled_rows())


def kept_ff(d: DenseLayer) -> int:
    """Input registers of the pipelined layer, less those of the outputs where reuse above 1 leaves them
    out."""
    return DATA_BITS * d.n_in + 2 if d.reuse == 1 else DATA_BITS * (d.n_in - d.n_out) + 4


def dsp_products(d: DenseLayer, model: UnrolledModel) -> float:
    """Products that go through DSPs."""
    share = dsp_share(d.n_in, d.n_out, d.bits)
    if share == 0:
        return 0.0
    odds = _logit(share) + model.share.at(d)
    return d.products / (1 + exp(-odds))


def unrolled_fabric(d: DenseLayer, model: UnrolledModel) -> tuple[float, float, float, float]:
    """LUT, FF, DSP, BRAM18 (none: weights are constants)."""
    lut = d.products * exp(model.lut.at(d)) - outputs_freed(d)
    dsp = float(dsp_limit(d)) if _turns(d) else dsp_products(d, model)
    return max(round(lut), 0), max(round(_ff(d, model)), 0), round(dsp), 0


def _ff(d: DenseLayer, model: UnrolledModel) -> float:
    if d.strategy == "resource":
        if depth_of(d) == 0:
            return DATA_BITS * d.n_out + 2
        dsp = dsp_products(d, model)
        return d.n_out * exp(model.ff_resource.at(d)) + (dsp * exp(model.ff_resource_dsp.at(d)) if dsp else 0)
    if _turns(d):
        return d.products * exp(model.ff_turns.at(d))
    if depth_of(d) == 0:
        return DATA_BITS * d.n_in + 2
    return kept_ff(d) + d.n_out * exp(model.ff_pipelined.at(d))


def unrolled_timing(d: DenseLayer, model: UnrolledModel) -> tuple[int, int]:
    """Interval and worst-case latency in cycles. Latency strategy with reuse above 1 is not pipelined."""
    depth = depth_of(d)
    if d.strategy == "resource":
        return (2 if depth else 1), depth
    if d.reuse == 1:
        return 1, depth
    latency = ceil(dsp_products(d, model) / dsp_limit(d) + 1) if _turns(d) else 2 * depth
    return latency + 1, latency
