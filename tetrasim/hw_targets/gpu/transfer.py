"""From measured devices to one that was never measured.

Times of kernel phases are cycles, and cycles carry over: they scale with the clock. For 16-bit products there
is more: one set of parameters (`SharedGemm`), fitted jointly to several devices of two architectures, holds
only dimensionless numbers and cycles. What differs between devices comes from data sheets and published
microbenchmarks: clock, rates, latencies, L2's reach, and how tiles are copied (architecture.py). How well
that carries over to devices left out of the fit: reproductions/gpu_unseen_device.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tetrasim.hw_targets.gpu.architecture import architecture
from tetrasim.hw_targets.gpu.kernels.attention import AttentionFit
from tetrasim.hw_targets.gpu.kernels.gemm import GemmFit
from tetrasim.hw_targets.gpu.power import PowerFit

if TYPE_CHECKING:
    from tetrasim.hw_targets.gpu.config import GpuConfig

FILE = Path(__file__).with_name("shared_gemm.yaml")
ALL = "all"  # the set of parameters that was fitted to every measured device


@dataclass(frozen=True, slots=True)
class SharedGemm:
    """`GemmFit` without a device.

    `*_cycles`: as the times of `GemmFit`. `l2_latencies` and `dram_latencies`: what a load takes, in
    latencies of L2 and (beyond it) of DRAM. The rest as in `GemmFit`.
    """

    start_cycles: float
    wave_cycles: float
    epilogue_cycles: float
    epilogue_exposed: float
    split_cycles: float
    reduce_efficiency: float
    compute_efficiency: float
    tile_exponent: float
    l2_latencies: float
    dram_latencies: float
    stages: float
    l2_efficiency: float
    read_efficiency: float
    write_efficiency: float
    overlap: float
    l2_share: float
    l2_onset: float


def gemm_fit(shared: SharedGemm, config: GpuConfig) -> GemmFit:
    """The shared parameters on one device."""
    known = architecture(config.architecture)
    cycle_us = 1e6 / config.clock_hz
    share, onset = shared.l2_share, shared.l2_onset
    if known.l2_warm is not None and known.l2_cold is not None:
        share, onset = known.l2_cold, known.l2_warm / known.l2_cold
    return GemmFit(
        start_us=shared.start_cycles * cycle_us,
        wave_us=shared.wave_cycles * cycle_us,
        epilogue_us=shared.epilogue_cycles * known.epilogue_bytes * cycle_us,
        epilogue_exposed=shared.epilogue_exposed,
        split_us=shared.split_cycles * cycle_us,
        reduce_efficiency=shared.reduce_efficiency,
        compute_efficiency=shared.compute_efficiency,
        tile_exponent=shared.tile_exponent,
        latency_us=shared.l2_latencies * known.l2_latency * cycle_us,
        dram_latency_us=shared.dram_latencies * (known.dram_latency - known.l2_latency) * cycle_us,
        stages=shared.stages,
        l2_efficiency=shared.l2_efficiency / known.panel_bytes,
        read_efficiency=shared.read_efficiency,
        write_efficiency=shared.write_efficiency,
        overlap=shared.overlap,
        l2_share=share,
        l2_onset=onset,
    )


@cache
def shared_gemm(fitted_on: str = ALL) -> SharedGemm:
    """The parameters fitted on a set of devices: `all`, or presets joined by `+` (in benchmarks)."""
    tree: dict[str, dict[str, float]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return SharedGemm(**tree[fitted_on])


GEMM_TIMES = (
    "start_us", "wave_us", "split_us", "epilogue_us", "latency_us", "dram_latency_us", "quantise_us",
)  # fmt: skip
ATTENTION_TIMES = ("block_us", "row_us", "tile_us", "softmax_us", "combine_us", "combine_split_us")


def slower_gemm(fit: GemmFit, times: float) -> GemmFit:
    """Every phase takes `times` as long: the same cycles at another clock."""
    values = asdict(fit)
    return GemmFit(**{n: v * times if n in GEMM_TIMES else v for n, v in values.items()})


def slower_attention(fit: AttentionFit, times: float) -> AttentionFit:
    """As `slower_gemm`."""
    values = asdict(fit)
    return AttentionFit(**{n: v * times if n in ATTENTION_TIMES else v for n, v in values.items()})


def resized_power(fit: PowerFit, sm_count_ratio: float) -> PowerFit:
    """What running SMs draw goes with their number."""
    return replace(fit, active_w=fit.active_w * sm_count_ratio)
