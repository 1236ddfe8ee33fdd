"""Fabric and timing of hls4ml's dense layer, as synthesis reports them (Vivado HLS csynth, VU13P class, 5
ns).

Two kernels, two models: the weight-memory kernel of the Resource strategy (`shared_dense.py`) and constant
products (`unrolled_dense.py`: reuse 1, or Latency strategy). Both are structures whose coefficients are
fitted to `data/dense_csynth.csv` when first needed (milliseconds). Outside the rows' range `in_domain` is
False: layers that run the weight-memory kernel keep its structure (`validate.py` compares it with whole
networks synthesised by another tool version), all others take the laws of `resources.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tetrasim.hw_targets.fpga.dense_rows import DenseLayer
from tetrasim.hw_targets.fpga.resources import constant_products, shared_products
from tetrasim.hw_targets.fpga.shared_dense import SharedModel, shared_fabric, shared_model
from tetrasim.hw_targets.fpga.unrolled_dense import (
    UnrolledModel,
    unrolled_fabric,
    unrolled_model,
    unrolled_timing,
)

SIZES, WIDTHS = (32, 256), (2, 14)  # of the rows: inputs and outputs, weight bits
SHARED_REUSE, TURN_REUSE = (384, 1280), (512, 1024)
SHARED_NEIGHBOURS = (2, 32)  # accumulators per lane: reuse / n_in
UNROLLED_PRODUCTS = 3072
KERNEL_INPUTS, KERNEL_OUTPUTS = 32, 8  # smaller layers: the fitted constant is not known to hold


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


def in_domain(d: DenseLayer) -> bool:
    """Whether the synthesised rows surround this layer."""
    inside = SIZES[0] <= min(d.n_in, d.n_out) and max(d.n_in, d.n_out) <= SIZES[1]
    inside = inside and WIDTHS[0] <= d.bits <= WIDTHS[1]
    if d.shared:
        each, rest = divmod(d.reuse, d.n_in)
        walks = not rest and SHARED_NEIGHBOURS[0] <= each <= SHARED_NEIGHBOURS[1]
        return inside and walks and SHARED_REUSE[0] <= d.reuse <= SHARED_REUSE[1]
    turns = d.reuse == 1 or TURN_REUSE[0] <= d.reuse <= TURN_REUSE[1]
    return inside and turns and d.products <= UNROLLED_PRODUCTS


def keeps_structure(d: DenseLayer) -> bool:
    """Whether a layer outside the rows runs the kernel that they describe: whole walks over the inputs."""
    return d.shared and d.reuse % d.n_in == 0 and d.n_in >= KERNEL_INPUTS and d.n_out >= KERNEL_OUTPUTS


def predict(d: DenseLayer, shared: SharedModel, unrolled: UnrolledModel) -> DenseEstimate:
    """The layer by the model of its kernel, whatever the domain."""
    if d.shared:
        return DenseEstimate(d.reuse, d.reuse + 2, *shared_fabric(d, shared), in_domain(d))
    return DenseEstimate(*unrolled_timing(d, unrolled), *unrolled_fabric(d, unrolled), in_domain(d))


@lru_cache(maxsize=1 << 14)
def estimate_dense(n_in: int, n_out: int, bits: int, reuse: int, strategy: str = "resource") -> DenseEstimate:
    """Timing and fabric of one dense layer; `strategy` is hls4ml's `resource` or `latency`."""
    d = DenseLayer(strategy, n_in, n_out, bits, reuse)
    if in_domain(d) or keeps_structure(d):
        return predict(d, shared_model(), unrolled_model())
    interval, latency = (reuse, reuse + 2) if reuse > 1 else unrolled_timing(d, unrolled_model())
    products = float(n_in * n_out)
    if reuse > 1:
        law = shared_products(products, reuse, n_in, n_out, bits, bits)
    else:
        law = constant_products(products, bits, bits)
    return DenseEstimate(interval, latency, law.lut, law.ff, law.dsp, law.bram18, in_domain=False)
