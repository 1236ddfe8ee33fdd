"""What an FPGA card is to the model: fabric, memories, number format, the two mappings and power.

Two mappings share one device. `spatial` lays every layer out as hardware and streams tokens through it
(`spatial.py`); `overlay` is one matrix-vector engine that runs the layers in turn with weights streamed
from HBM or DDR (`overlay.py`, after DFX, arXiv 2209.10797, and FlightLLM, arXiv 2401.03868).
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tetrasim.hw_targets.common.target import Config
from tetrasim.sim.ir.graph import Kind
from tetrasim.sim.precision import Format, Precision

BRAM18_BITS = 18 * 1024
URAM_BITS = 288 * 1024


class Fabric(Config):
    """What the designer may use (the user region where a shell takes part of the device)."""

    lut: int = Field(gt=0)
    ff: int = Field(gt=0)
    dsp: int = Field(gt=0)
    bram18: int = Field(ge=0)
    uram: int = Field(ge=0)

    @property
    def memory_bits(self) -> int:
        return self.bram18 * BRAM18_BITS + self.uram * URAM_BITS


class OffChip(Config):
    """The memory beside the device. `efficiency` is the share of the peak that long bursts reach."""

    kind: Literal["hbm2", "ddr4", "lpddr4", "ddr3"]
    capacity_bytes: int = Field(gt=0)
    bandwidth_bytes_per_s: float = Field(gt=0)
    efficiency: float = Field(gt=0, le=1)
    latency_ns: float = Field(ge=0)
    energy_pj_per_bit: float = Field(ge=0)


class Numbers(Config):
    """The number format of weights and activations. Fixed point is ap_fixed<bits, integer_bits>."""

    format: Literal["fixed", "float16", "int8"]
    bits: int = Field(default=16, ge=2, le=64)
    integer_bits: int = Field(default=6, ge=1, le=64)
    accumulator_bits: int = Field(default=32, ge=2, le=64)
    accumulator_integer_bits: int = Field(default=14, ge=1, le=64)
    # compressed weights of the overlay's products (compression.py): share kept, mean bits of a kept one
    # (0: as stored otherwise), bits that say where it was
    weight_density: float = Field(default=1.0, gt=0, le=1)
    weight_bits: float = Field(default=0.0, ge=0, le=64)
    weight_index_bits: float = Field(default=0.0, ge=0, le=32)

    @property
    def storage(self) -> Format:
        if self.format == "fixed":
            return Format(Kind.FIXED, self.bits, self.integer_bits)
        return Format(Kind.FLOAT, 16) if self.format == "float16" else Format(Kind.INT, 8)

    @property
    def precision(self) -> Precision:
        """Formats per role. Int8 keeps its activations in 16-bit float, as weight-only quantisation does."""
        form = self.storage
        if self.format == "fixed":
            wide = Format(Kind.FIXED, self.accumulator_bits, self.accumulator_integer_bits)
            return Precision(form, form, form, wide)
        half = Format(Kind.FLOAT, 16)
        return Precision(form, half, half, Format(Kind.FLOAT, 32))


class Spatial(Config):
    """hls4ml-style pipeline of layers. `reuse` 0 takes the smallest reuse factor that fits the fabric."""

    reuse: int = Field(ge=0, le=1 << 20)
    strategy: Literal["latency", "resource", "distributed_arithmetic"] = "latency"
    attention: Literal["streamed", "staged"] = (
        "streamed"  # staged: a barrier after every stage (the authors')
    )
    fifo_depth: int = Field(ge=0, le=1 << 20)  # 0: sized by search
    table_entries: int = Field(ge=2, le=1 << 16)
    frames: int = Field(ge=1, le=4096)  # inputs simulated in a row to see the steady interval
    frame_interval_cycles: int = Field(ge=0)  # 0: the interval that the pipeline sustains


class Overlay(Config):
    """One engine for all layers: `dot_length` x `columns` MACs per cycle, a vector unit, double-buffered
    weights."""

    clock_hz: int = Field(gt=0)
    dot_length: int = Field(gt=0)
    columns: int = Field(gt=0)
    dsp_per_mac: float = Field(ge=0)
    vector_lanes: int = Field(gt=0)
    function_lanes: int = Field(gt=0)  # exp, erf, tanh, sqrt, log, trig, pow, div: results per cycle
    control_cycles: int = Field(ge=0)  # instruction decode and engine set-up per op
    engine_latency_cycles: int = Field(ge=0)  # first operand to first result: multiplier, adder tree, writer
    vector_latency_cycles: int = Field(ge=0)
    lut_per_mac: float = Field(ge=0)
    ff_per_mac: float = Field(ge=0)

    @property
    def macs_per_cycle(self) -> int:
        return self.dot_length * self.columns


class Power(Config):
    """Static power of the whole board and energy per event. Replace the coefficients by your own
    measurements."""

    static_w: float = Field(ge=0)
    mac_pj: float = Field(ge=0)  # one multiply-accumulate in a DSP, with its share of clock and routing
    lut_op_pj: float = Field(ge=0)  # one vector operation in fabric
    on_chip_pj_per_byte: float = Field(ge=0)


class FpgaConfig(Config):
    """One FPGA card or part."""

    part: str
    clock_hz: int = Field(gt=0)
    fabric: Fabric
    off_chip: OffChip | None = None
    numbers: Numbers
    mapping: Literal["auto", "spatial", "overlay"] = "auto"
    # why `auto` became this mapping for all graphs of a run; written by `settle`, never by a user
    chosen: str = Field(default="", exclude=True)
    spatial: Spatial
    overlay: Overlay
    power: Power
    usable_fraction: float = Field(
        gt=0, le=1
    )  # of the fabric: above it, place and route rarely closes timing

    @property
    def clock_ns(self) -> float:
        return 1e9 / self.clock_hz

    @property
    def bytes_per_cycle(self) -> float:
        """Off-chip bytes that arrive per overlay clock, long bursts."""
        if self.off_chip is None:
            return math.inf
        return self.off_chip.bandwidth_bytes_per_s * self.off_chip.efficiency / self.overlay.clock_hz
