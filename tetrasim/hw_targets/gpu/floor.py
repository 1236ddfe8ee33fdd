"""The least energy of a run: the idle board, the power of queued work while kernels run, and what products of
weights need at full clock: their flops and the weights that L2 cannot keep from one run to the next.

A kernel of length t draws base power over t and the share t / (t + ramp) of its own energy, up to the board's
limit over t (`power.py`). That grows with t, so the least t gives the least energy; kernels that a library
joins are at least as long as their parts together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.target import EnergyFloor
from tetrasim.hw_targets.gpu.calibration import calibration_of
from tetrasim.hw_targets.gpu.config import GpuConfig
from tetrasim.hw_targets.gpu.costs import EIGHT_BIT_ENERGY, gemm_format
from tetrasim.hw_targets.gpu.device import FLOAT8, FLOAT32, device_of
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work, WorkKind

if TYPE_CHECKING:
    from numpy.typing import NDArray


def least_energy(graph: Graph, config: GpuConfig) -> EnergyFloor:
    """Removed padding (`fill`) makes products smaller than the graph's: then the idle board alone."""
    device, fit = device_of(config), calibration_of(config)
    works, macs, weight_bytes = _products(graph)
    if config.fill < 1.0 or not works:
        return EnergyFloor(config.power.idle_w, 0.0)
    power = fit.power
    used = np.array([gemm_format(w, config) for w in works], dtype=np.int64)
    share, onset = fit.product_reach[used].T
    distance = (graph.weight_bytes + graph.state_bytes) / (device.l2_bytes * share)
    from_dram = weight_bytes * np.clip((distance - onset) / (1 - onset), 0, 1)
    width = np.where(used >= FLOAT8, EIGHT_BIT_ENERGY, 1.0)
    per_flop = np.where(used == FLOAT32, power.fp32_pj_per_flop, power.tensor_pj_per_flop * width)
    own_pj = 2.0 * macs * per_flop + from_dram * power.dram_pj_per_byte
    peak, dram = np.maximum(device.peaks[used], 1e-9), device.dram_bytes_per_us
    least_us = np.maximum(2.0 * macs / peak, from_dram / dram)
    drawn = own_pj * least_us / (least_us + power.ramp_us) + power.base_w * least_us * 1e6
    limit = device.headroom_w * least_us * 1e6
    return EnergyFloor(config.power.idle_w, float(np.minimum(drawn, limit).sum()))


@lru_cache(maxsize=256)
def _products(graph: Graph) -> tuple[tuple[Work, ...], NDArray[np.float64], NDArray[np.float64]]:
    """The products of weights, their multiply-adds and bytes of weights."""
    works = tuple(
        w
        for w in map(work_of, graph.nodes)
        if w.kind is WorkKind.GEMM and w.gemm is not None and w.gemm.weight_is_b
    )
    return (
        works,
        np.array([w.macs for w in works], dtype=np.float64),
        np.array([w.operand("b").nbytes for w in works], dtype=np.float64),
    )
