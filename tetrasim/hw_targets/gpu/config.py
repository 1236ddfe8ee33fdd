"""A GPU as data: what the data sheet says, how the host launches work, which mapping is used.

Numbers that a data sheet prints live in `presets/*.yaml`, each with its source. Numbers that only
measurements give (how much of a peak a kernel reaches, what a kernel start costs) live in
`calibration.yaml`, written by ``tetrasim calibrate gpu``; `calibration` names the entry a device uses.
A device that was never measured uses the entry of its architecture and says so (no error range).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from tetrasim.hw_targets.common.target import Config
from tetrasim.sim.precision import BFLOAT16, FLOAT8, FLOAT16, FLOAT32, INT4, INT8, Precision


class Launch(StrEnum):
    """Who starts a kernel: a replayed CUDA graph, a stream of launches, or a framework op by op."""

    GRAPH = "graph"
    STREAM = "stream"
    EAGER = "eager"


class AttentionSchedule(StrEnum):
    """How attention is mapped to thread blocks; AUTO takes the fastest fused one."""

    AUTO = "auto"
    FLASH2 = "flash2"
    FLASH_DECODING = "flash-decoding"
    LEAN = "lean"
    PAGED = "paged"  # as AUTO, keys and values in pages of `page_tokens` behind a page table
    GROUPED = "grouped"  # two products over the true lengths, softmax in the first one's epilogue (CUTLASS)
    UNFUSED = "unfused"


class Fusion(StrEnum):
    """What shares a kernel. FULL: element-wise chains, also as epilogues of products. CHAINS: chains and
    norms, but products write what they compute (a library around cuBLAS). NONE: a kernel per op."""

    FULL = "full"
    CHAINS = "chains"
    NONE = "none"


class Packing(StrEnum):
    """What padding removal covers (`fill` below 1). BATCH: tokens are packed once per run. LAYER: every layer
    packs and restores, and the host waits for the token count. PRODUCTS: attention runs padded."""

    BATCH = "batch"
    LAYER = "layer"
    PRODUCTS = "products"


class Lengths(StrEnum):
    """How the lengths of a padded batch spread around their mean."""

    UNIFORM = "uniform"
    EQUAL = "equal"


class Number(StrEnum):
    """The number format a model runs in. `tfloat32`: float32 data, products of 10-bit mantissas;
    `int4`: weights only."""

    FLOAT32 = "float32"
    TFLOAT32 = "tfloat32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8 = "float8"
    INT8 = "int8"
    INT4 = "int4"


class ComputeConfig(Config):
    """Dense peaks of the data sheet, fused multiply-add counted as two, fp32 accumulation; 0: not available.

    They are those of `of_sms` multiprocessors at `at_clock_hz`, and scale with the device's own; 0: as many
    as the device has, at its clock.
    """

    of_sms: int = Field(default=0, ge=0)
    at_clock_hz: int = Field(default=0, ge=0)
    fp32_flops_per_s: PositiveFloat
    tf32_flops_per_s: float = Field(default=0.0, ge=0)
    fp16_flops_per_s: PositiveFloat
    bf16_flops_per_s: float = Field(default=0.0, ge=0)
    fp8_flops_per_s: float = Field(default=0.0, ge=0)
    int8_ops_per_s: float = Field(default=0.0, ge=0)


class SmConfig(Config):
    """One streaming multiprocessor."""

    register_bytes: PositiveInt
    shared_bytes: PositiveInt
    threads: PositiveInt = 2048


class L2Config(Config):
    bytes: PositiveInt
    bandwidth_bytes_per_s: PositiveFloat


class DramConfig(Config):
    """`sustained_fraction` of the data-sheet bandwidth is what a streaming kernel reads at."""

    bytes: PositiveInt
    bandwidth_bytes_per_s: PositiveFloat
    sustained_fraction: float = Field(gt=0, le=1)


class HostConfig(Config):
    """The host side: the link that streams weights that do not fit, and what one launch costs per mode.

    `graph_gap_s` passes on the device between two kernels of a graph; the others occupy the host per kernel
    (`eager_product_s`, `stream_product_s`: a matrix product, whose library call costs more; the latter 0: as
    any kernel). `search_s`: more per product of a stream whose tile the library looks up at every launch
    (cuBLASLt without a stored algorithm; not with `tuned_products`). `sync_s`: from the end of a kernel until
    a host that waited for its result goes on.
    """

    link_bytes_per_s: PositiveFloat
    graph_gap_s: PositiveFloat
    stream_launch_s: PositiveFloat
    stream_product_s: float = Field(default=0.0, ge=0)
    eager_launch_s: PositiveFloat
    eager_product_s: PositiveFloat
    search_s: float = Field(default=0.0, ge=0)
    sync_s: float = Field(default=0.0, ge=0)


class PowerConfig(Config):
    """`cap_w`: the board limit; `idle_w`: the draw of an idle board. Energies per operation: calibration."""

    cap_w: PositiveFloat
    idle_w: PositiveFloat


class GpuConfig(Config):
    """One GPU and how it is used. Rates are at `clock_hz`, the clock the data sheet's peaks assume."""

    architecture: str  # volta, turing, ampere, ada, hopper
    calibration: str  # entry of calibration.yaml
    validated: bool = False  # the entry was fitted on this very device
    sm_count: PositiveInt
    clock_hz: PositiveInt
    compute: ComputeConfig
    sm: SmConfig
    l2: L2Config
    dram: DramConfig
    host: HostConfig
    power: PowerConfig
    precision: Number = Number.FLOAT16
    launch: Launch = Launch.GRAPH
    attention: AttentionSchedule = AttentionSchedule.AUTO
    page_tokens: PositiveInt = 16  # of paged attention (vLLM's default block size)
    fusion: Fusion = Fusion.FULL  # eager mode never fuses
    joint_products: bool = False  # products of one input run as one (q, k and v)
    tuned_products: bool = False  # tiles timed beforehand, the fastest taken; False: the library's heuristic
    fill: float = Field(default=1.0, gt=0, le=1)  # mean over padded sequence length; below 1: padding removed
    packing: Packing = Packing.BATCH
    lengths: Lengths = Lengths.UNIFORM
    running_clock_hz: int = Field(default=0, ge=0)  # SM clock the board is held at; 0: boost
    gpus: int = 1

    @property
    def peak_scale(self) -> float:
        """The device's peaks over those stated in `compute`: 1 unless SMs or clock were changed."""
        sms = self.sm_count / (self.compute.of_sms or self.sm_count)
        return sms * (self.clock_hz / (self.compute.at_clock_hz or self.clock_hz))

    @property
    def slowdown(self) -> float:
        """Boost clock over running clock: how much longer everything but DRAM takes."""
        return self.clock_hz / self.running_clock_hz if self.running_clock_hz else 1.0

    @field_validator("running_clock_hz")
    @classmethod
    def _below_boost(cls, clock_hz: int, info: ValidationInfo) -> int:
        boost = info.data.get("clock_hz", clock_hz)
        if clock_hz > boost:
            raise ValueError(f"the boost clock is {boost} Hz: choose less, or 0 for boost")
        return clock_hz

    @field_validator("fusion", mode="before")
    @classmethod
    def _yes_or_no(cls, fusion: object) -> object:
        if isinstance(fusion, bool):
            return Fusion.FULL if fusion else Fusion.NONE
        return fusion

    @field_validator("gpus")
    @classmethod
    def _one_gpu(cls, gpus: int) -> int:
        if gpus != 1:
            raise ValueError("several GPUs are not modelled: simulate one GPU's share of the model")
        return gpus


def precision_of(config: GpuConfig) -> Precision:
    """Formats per role; products accumulate in float32 (int8: in int32, kept as float32 here)."""
    if config.precision in (Number.FLOAT32, Number.TFLOAT32):
        return Precision(FLOAT32, FLOAT32, FLOAT32, FLOAT32)
    if config.precision is Number.FLOAT16:
        return Precision(FLOAT16, FLOAT16, FLOAT16, FLOAT32)
    if config.precision is Number.BFLOAT16:
        return Precision(BFLOAT16, BFLOAT16, BFLOAT16, FLOAT32)
    wide = BFLOAT16 if config.compute.bf16_flops_per_s else FLOAT16
    narrow = {Number.FLOAT8: FLOAT8, Number.INT8: INT8, Number.INT4: INT4}[config.precision]
    return Precision(narrow, wide, wide, FLOAT32)
