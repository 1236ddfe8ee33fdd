"""LUT, FF, DSP and BRAM of a layer, before synthesis.

Laws and where they come from (errors: `validate.py`):
- a constant product takes a DSP with a probability that grows with its width (powers of two, zeros and narrow
  weights become shifts and LUT adders): interpolated from Vivado HLS csynth rows of fully unrolled dense
  layers;
- an adder takes 0.78 LUT per bit of the sum, a product that stays in LUTs 0.36 LUT per bit pair;
- a table of 2**a entries of 18 bits takes one BRAM18 per 1024 entries; a FIFO follows `fifo_bram18`.
Dense layers inside the domain of the synthesised rows use the fitted model of `dense_model.py` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2

import numpy as np

from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dataflow.network import SHIFT_REGISTER_DEPTH

# Share of constant products that take a DSP when fully unrolled: mean over n_in x n_out of the reuse-1
# csynth rows
# (github:Dendendelen/wa-hls4ml-search), and 0 up to 6 bits; 1 from 18 bits (a DSP48E2 multiplies 27 x 18).
DSP_SHARE = ((6, 0.0), (8, 0.226), (10, 0.62), (12, 0.852), (14, 0.942), (18, 1.0))


@dataclass(frozen=True, slots=True)
class Cost:
    """Fabric used; fractions are allowed until the end of a sum."""

    lut: float = 0.0
    ff: float = 0.0
    dsp: float = 0.0
    bram18: float = 0.0
    uram: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.lut + other.lut,
            self.ff + other.ff,
            self.dsp + other.dsp,
            self.bram18 + other.bram18,
            self.uram + other.uram,
        )

    def times(self, n: float) -> Cost:
        """`n` copies."""
        return Cost(self.lut * n, self.ff * n, self.dsp * n, self.bram18 * n, self.uram * n)


def limiting(cost: Cost, config: FpgaConfig) -> tuple[str, float]:
    """The scarcest resource and the fraction of the usable fabric it takes (above 1: does not fit)."""
    f, share = config.fabric, config.usable_fraction
    # URAM and BRAM hold the same data: memory that overflows one spills into the other (16 BRAM18 per URAM)
    memory = cost.bram18 + 16 * cost.uram
    uses = (
        ("LUT", cost.lut / (f.lut * share)),
        ("FF", cost.ff / (f.ff * share)),
        ("DSP", cost.dsp / (f.dsp * share)),
        ("BRAM", memory / ((f.bram18 + 16 * f.uram) * share)),
    )
    return max(uses, key=lambda u: u[1])


def dsp_per_product(bits_a: int, bits_b: int) -> float:
    """DSP48E2 slices of one variable product: a 27 x 18 signed multiplier each; narrow ones go to LUTs."""
    wide, narrow = max(bits_a, bits_b), min(bits_a, bits_b)
    if wide <= 4:
        return 0.0
    return float(ceil(wide / 27) * ceil(narrow / 18))


@lru_cache(maxsize=4096)
def constant_products(products: float, bits: int, weight_bits: int) -> Cost:
    """Fully unrolled products by constants with their adder tree (reuse 1)."""
    points = np.array(DSP_SHARE)
    share = float(np.interp(min(bits, weight_bits), points[:, 0], points[:, 1]))
    dsp = share * products * dsp_per_product(bits, weight_bits)
    width = (bits + weight_bits) / 2
    # fitted to the 36 reuse-1 csynth rows (validate.py prints the error): an adder per product, and partial
    # products in LUTs for those without a DSP
    adders = 0.78 * products * (2 * width + 2)
    lut = adders + products * (1 - share) * min(0.36 * width**2, 29.0)
    return Cost(lut=lut, ff=products * (0.75 + 0.2 * width), dsp=dsp)


@lru_cache(maxsize=4096)
def shared_products(products: float, reuse: int, n_in: int, n_out: int, bits: int, weight_bits: int) -> Cost:
    """`products` per firing over `reuse` cycles: multipliers with weight memory, accumulators and
    multiplexers."""
    multipliers = products / reuse
    dsp = multipliers * dsp_per_product(bits, weight_bits)
    lut_products = multipliers * bits * weight_bits if dsp == 0 else 0.0
    mux = n_in * bits * min(log2(max(reuse, 2)), 8) * 0.35
    lut = lut_products + multipliers * (bits + weight_bits) * 0.6 + mux + n_out * (bits + weight_bits)
    ff = n_in * bits + n_out * (bits + weight_bits + 4) + multipliers * (bits + weight_bits)
    return Cost(lut=lut, ff=ff, dsp=dsp, bram18=weight_bram18(products, reuse, weight_bits))


def weight_bram18(products: float, reuse: int, weight_bits: int) -> float:
    """Weights as one memory of `reuse` words, 36 bits wide and 512 deep per block."""
    width = ceil(products / reuse) * weight_bits
    if reuse < 16:  # shallow memories become LUT ROMs
        return 0.0
    return ceil(width / 36) * ceil(reuse / 512)


@lru_cache(maxsize=4096)
def variable_products(multipliers: float, bits_a: int, bits_b: int) -> Cost:
    """Multipliers of two run-time operands with their share of an adder tree."""
    each = dsp_per_product(bits_a, bits_b)
    lut = multipliers * ((bits_a * bits_b if each == 0 else 0) + (bits_a + bits_b))
    return Cost(lut=lut, ff=multipliers * (bits_a + bits_b), dsp=multipliers * each)


def tables(count: float, entries: int, bits: int = 18) -> Cost:
    """`count` look-up tables; two look-ups share a dual-ported block."""
    return Cost(lut=count * 40, ff=count * bits, bram18=ceil(count / 2) * ceil(entries * bits / 18432))


def fifo_cost(depth: int, bits: int) -> Cost:
    """Shift registers up to two entries, LUT RAM up to 1 Kbit, else BRAM (LightningSim's fifo.rs rule)."""
    if depth <= SHIFT_REGISTER_DEPTH:
        return Cost(lut=bits * 0.5 + 6, ff=depth * bits + 4)
    if depth * bits <= 1024 or depth <= 32:
        return Cost(lut=bits * ceil(depth / 32) + 14, ff=bits + 12)
    return Cost(lut=60, ff=40, bram18=fifo_bram18(depth, bits))


def fifo_bram18(depth: int, bits: int) -> int:
    """18 Kb blocks of a `depth` x `bits` memory: the best of the block's aspect ratios."""
    shapes = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
    return min(ceil(depth / rows) * ceil(bits / width) for rows, width in shapes)
