"""Description of a processor and of the runtime on it.

A processor is: cores at a sustained clock, multiply-accumulate rates per element format, register tiles of
the GEMM micro-kernels, four memory levels with a capacity and a bandwidth, and the costs of the software
around the arithmetic (per node, per run, fork and join). All rates are per core unless named `total`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tetrasim.hw_targets.common.target import Config

Dtype = Literal["float32", "bfloat16", "float16", "int8"]
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "float16", "int8")


class CoreConfig(Config):
    """Arithmetic of one core."""

    clock_hz: int = Field(gt=0, description="sustained with all cores busy on vector code")
    fp32_macs_per_cycle: float = Field(gt=0, description="fused multiply-adds, all lanes of all units")
    bf16_rate: float = Field(gt=0, description="multiply-add rate relative to float32")
    fp16_rate: float = Field(gt=0, description="multiply-add rate relative to float32")
    int8_rate: float = Field(gt=0, description="multiply-add rate relative to float32")
    single_clock_hz: int = Field(gt=0, description="sustained with one core busy")


class GemmConfig(Config):
    """Blocked matrix multiplication: register tile rows x cols, and what it costs to start a tile."""

    tile_rows: int = Field(gt=0, le=64)
    tile_cols: int = Field(gt=0, le=256)
    efficiency: float = Field(gt=0, le=1, description="of the multiply-add peak, in the inner loop")
    tile_overhead_cycles: float = Field(ge=0, description="load and store one tile, per depth block")
    depth_block: int = Field(gt=0, description="depth (k) of a packed panel")
    call_overhead_cycles: float = Field(ge=0, description="per matrix product of a batch")
    pack_bytes_per_cycle: float = Field(gt=0, description="rearranging an operand that is not a constant")
    step_floor_cycles: float = Field(ge=0, description="least cycles per depth step of a tile: FMA latency")
    col_block: int = Field(gt=0, description="columns of a packed panel: A is read again for each of them")
    stream_slowdown: float = Field(
        ge=0, description="added to the time of reading a weight from DRAM, relative, for a full tile of rows"
    )
    shared_stream_slowdown: float = Field(
        default=0.6,
        ge=0,
        description="the same where all cores together are limited by DRAM (inferred: at most 0.6 on an EPYC"
        " virtual machine)",
    )
    reread_efficiency: float = Field(gt=0, le=1, description="of the bandwidth, for A and C read again")
    overlap: float = Field(ge=0, le=1, description="part of arithmetic or cache traffic hidden by the other")
    dram_overlap: float = Field(
        ge=0, le=1, description="part of arithmetic or DRAM traffic hidden by the other"
    )
    col_granularity: int = Field(gt=0, description="columns are padded to a multiple of this")


class VectorConfig(Config):
    """Cycles per element operation and core, when the data is at hand."""

    access_cycles: float = Field(ge=0, description="per element read or written")
    add: float = Field(ge=0)
    mul: float = Field(ge=0)
    div: float = Field(ge=0)
    sqrt: float = Field(ge=0)
    exp: float = Field(ge=0)
    erf: float = Field(ge=0)
    tanh: float = Field(ge=0)
    log: float = Field(ge=0)
    pow: float = Field(ge=0)
    trig: float = Field(ge=0)
    max: float = Field(ge=0)
    cmp: float = Field(ge=0)
    cast: float = Field(ge=0)
    select: float = Field(ge=0)
    reduce_add: float = Field(ge=0, description="per element summed along a row (norms, means)")
    residual_norm: float = Field(ge=0, description="per element of a norm fused with the sum before it")
    softmax: float = Field(ge=0, description="per element of a softmax, all its passes")
    row_overhead_cycles: float = Field(ge=0, description="per reduced row")
    sort_compare: float = Field(
        default=9.0,
        ge=0,
        description="per comparison of a sort: half of its branches are mispredicted (inferred: 15 to 20"
        " cycles each on these cores)",
    )
    move_cycles: float = Field(ge=0, description="per element of a copy in long runs")
    strided_move_cycles: float = Field(ge=0, description="per element of a copy in runs of one")
    gather_row_cycles: float = Field(ge=0, description="per gathered row")


class CacheConfig(Config):
    """One cache level; `total_bytes_per_s` limits what all cores get together from a shared level."""

    bytes_per_core: int = Field(ge=0, description="private capacity; 0 when shared")
    shared_bytes: int = Field(ge=0, description="capacity of one shared cache; 0 when private")
    cluster_cores: int = Field(ge=1, description="cores that share one such cache")
    bytes_per_cycle: float = Field(gt=0, description="per core, reads and writes together")
    total_bytes_per_s: float = Field(ge=0, description="0: cores times the rate of one")


class DramConfig(Config):
    """Main memory: sustained (STREAM-like) rates."""

    capacity_bytes: int = Field(gt=0)
    bandwidth_bytes_per_s: float = Field(gt=0, description="all cores, sustained")
    core_bandwidth_bytes_per_s: float = Field(gt=0, description="one core, sustained")
    numa_nodes: int = Field(ge=1)
    placement: Literal["interleaved", "one-node"] = "interleaved"


class OverheadConfig(Config):
    """Software around the arithmetic."""

    node_ns: float = Field(ge=0, description="per executed node of the graph runtime")
    run_ns: float = Field(ge=0, description="per run of the whole graph")
    value_ns: float = Field(ge=0, description="per graph input and output of a run")
    fork_join_ns: float = Field(ge=0, description="hand out work to the threads and wait for them")
    eager_op_ns: float = Field(ge=0, description="per operation of an eager framework (Python and dispatch)")
    page_fault_ns: float = Field(
        default=500.0,
        ge=0,
        description="per 4 KiB page of a new large result of an eager framework (assumed: native Linux;"
        " more in a virtual machine)",
    )


class PowerConfig(Config):
    """Energy: idle power over the whole run, active cores, operations and bytes; never above the limit."""

    idle_w: float = Field(ge=0)
    limit_w: float = Field(gt=0, description="thermal design power")
    core_active_w: float = Field(ge=0, description="per busy core, without its arithmetic")
    fp32_mac_pj: float = Field(ge=0)
    vector_op_pj: float = Field(ge=0)
    l2_byte_pj: float = Field(ge=0)
    l3_byte_pj: float = Field(ge=0)
    dram_byte_pj: float = Field(ge=0)


class CpuConfig(Config):
    """A processor, the runtime on it and how the model is mapped."""

    precision: Dtype = "float32"
    runtime: Literal["onnxruntime", "eager"] = "onnxruntime"
    kv_append: Literal["copy", "in-place"] = "copy"
    attention: Literal["full", "iceformer"] = "full"
    iceformer_top_k: int = Field(default=64, ge=1, description="keys that each query attends to")
    iceformer_intrinsic_dim: int = Field(
        default=16, ge=1, description="of the keys: how far an index has to look (assumed)"
    )
    cores: int = Field(ge=1)
    threads: int = Field(default=0, ge=0, description="0: one per core")
    uncalibrated: bool = False
    measured_as: str = Field(default="", description="class of committed measurements of this device")
    measured_threads: int = Field(
        default=1, ge=1, description="up to how many threads the description was measured undisturbed"
    )
    core: CoreConfig
    gemm: GemmConfig
    vector: VectorConfig
    l1: CacheConfig
    l2: CacheConfig
    l3: CacheConfig
    dram: DramConfig
    overhead: OverheadConfig
    power: PowerConfig

    @model_validator(mode="after")
    def _check(self) -> CpuConfig:
        if self.threads > self.cores:
            raise ValueError(f"threads ({self.threads}) above cores ({self.cores})")
        if self.power.idle_w >= self.power.limit_w:
            raise ValueError("idle_w has to be below limit_w")
        return self

    @property
    def active_threads(self) -> int:
        """Threads that run (0 in the file means one per core)."""
        return self.threads or self.cores

    @property
    def clock_hz(self) -> int:
        """The clock under the load of `active_threads`."""
        return self.core.single_clock_hz if self.active_threads == 1 else self.core.clock_hz

    def mac_rate(self, bits: int, bfloat: bool = False) -> float:
        """Multiply-adds per cycle and core on elements of `bits` bits."""
        c = self.core
        rate = 1.0 if bits > 16 else (c.bf16_rate if bfloat else c.fp16_rate) if bits == 16 else c.int8_rate
        return c.fp32_macs_per_cycle * rate
