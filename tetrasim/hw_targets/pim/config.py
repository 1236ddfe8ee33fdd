"""Configuration of a DRAM-PIM system: channels of in-bank MAC units plus the host unit that does the rest."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.target import Config
from tetrasim.sim.precision import BFLOAT16, FLOAT16, FLOAT32, INT8, Format, Precision


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Dialect(StrEnum):
    """How a channel is programmed: AiM (global buffer, all-bank MAC) or HBM-PIM (register files, modes)."""

    AIM = "aim"
    HBM = "hbm"


class PowerLimit(StrEnum):
    """What an all-bank command may draw at once."""

    NONE = "none"  # vendor claim: reservoir capacitors carry an all-bank activation
    GROUPED = "grouped"  # four activations of four banks each, spaced by nFAW
    SPACED = "spaced"  # all-bank MACs `mac_spacing_cycles` apart


class Units(_Part):
    """MAC units of one channel. `inputs`: vector values a channel holds at once (global buffer, or the input
    registers); `outputs_per_unit`: accumulators per unit (1: an adder tree over the lanes; more: the lanes
    stay separate and the host adds them)."""

    per_channel: int = Field(gt=0, le=1 << 16)
    lanes: int = Field(gt=0, le=1 << 16)
    inputs: int = Field(gt=0, le=1 << 20)
    outputs_per_unit: int = Field(gt=0, le=4096)  # registers beside a bank; far beyond, nothing is simulated
    bias_write: bool  # accumulators are loaded by a command before each dot product
    result_wait_cycles: int = Field(ge=0)  # a result read blocks the command stream for this long
    mac_power_w: float = Field(ge=0)  # logic of all units of a channel while they compute


class Host(_Part):
    """The unit that does softmax, norms, activations and sums (an ASIC or the memory controller's side).
    Functions are series: `exp_terms` of Taylor's, Newton-Raphson steps for 1/x, and the fast inverse square
    root with its Newton steps; every step is a multiplication and an addition per element. `erf_terms` of
    Taylor's for erf (GELU), saturated where the series leaves the function; 0: erf through exp and 1/x."""

    clock_hz: int = Field(gt=0)
    adders: int = Field(gt=0)
    multipliers: int = Field(gt=0)
    exp_terms: int = Field(ge=1, le=64)
    erf_terms: int = Field(ge=0, le=20, default=0)
    reciprocal_steps: int = Field(ge=0, le=64)
    rsqrt_steps: int = Field(ge=1, le=64)
    pipeline_cycles: int = Field(ge=0)  # fill and drain of one vector instruction
    sram_bytes: int = Field(gt=0)
    sram_bytes_per_cycle: int = Field(gt=0)
    power_w: float = Field(ge=0)  # drawn over the whole run
    chained: bool = True  # adders and multipliers work at once


class PimConfig(Config):
    """`device` names a DRAM device file; `channels` per device, `devices` work side by side.

    `refresh`: at row boundaries, between instructions (late by the intervals that the device allows), or
    never; `refresh_banks`: all banks at once (REFab), or one after the other (REFpb). `serial`: one
    instruction at a time, host or channels, as PIM-GPT's simulator; otherwise they overlap where the graph
    allows. `mode_switching`: switches of the command mode (AiM) or in and out of PIM mode (HBM-PIM) are
    charged. `activations`, `elementwise`: where activation functions and element-wise products (HBM-PIM: also
    sums) run when the device can do them; an activation table has `table_intervals` over +-`table_limit`.
    `host_products_from`: products of at least so many vectors with one matrix run on the host unit, which
    reads the weights once (0: never). `compat` behaves as the device's reference simulator: no power limit,
    and no refresh where that simulator has none. `exact_slow` turns every exact speed-up off.
    """

    device: str
    dialect: Dialect
    channels: int = Field(gt=0)
    devices: int = Field(gt=0, default=1)
    bytes_per_channel: int = Field(gt=0)
    precision: Literal["bfloat16", "float16", "int8", "float32"]
    units: Units
    host: Host
    refresh: Literal["row", "instruction", "none"] = "row"
    refresh_banks: Literal["all_bank", "per_bank"] = "all_bank"
    power_limit: PowerLimit = PowerLimit.NONE
    mac_spacing_cycles: int = Field(ge=0, default=0)
    serial: bool = True
    parameters_in_sram: bool = False
    mode_switching: bool = True
    activations: Literal["host", "banks"] = "host"
    elementwise: Literal["host", "banks"] = "host"
    table_intervals: int = Field(ge=2, default=512)
    table_limit: float = Field(gt=0, default=8.0)
    host_products_from: int = Field(ge=0, default=0)
    compat: bool = False
    reference_refreshes: bool = True  # the reference simulator of this device refreshes
    exact_slow: bool = False

    @property
    def total_channels(self) -> int:
        return self.channels * self.devices

    @property
    def element_bytes(self) -> int:
        return precision_of(self).weights.bits // 8


_FORMATS: dict[str, Format] = {"bfloat16": BFLOAT16, "float16": FLOAT16, "int8": INT8, "float32": FLOAT32}


def precision_of(config: PimConfig) -> Precision:
    """One format for weights, activations and state; sums are kept in float32 inside the adder tree."""
    kind = _FORMATS[config.precision]
    return Precision(kind, kind, kind, FLOAT32)


def check(config: PimConfig) -> None:
    """Rules between fields.

    Raises:
        UserError: a power limit without its parameter.
    """
    if config.power_limit is PowerLimit.SPACED and config.mac_spacing_cycles < 1:
        raise UserError(
            "power_limit 'spaced' needs mac_spacing_cycles of 1 or more", hint="set mac_spacing_cycles"
        )
