"""Kernels without matrix products: element-wise chains, norms, softmax, gathers and copies.

They stream: time = start + bytes / bandwidth, where bandwidth is L2's for what stays in L2 and DRAM's for the
rest, or the element operations at the CUDA cores' rate when that is slower. Rows that are reduced add one
more pass's latency per wave of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.device import FLOAT32, Device
from tetrasim.hw_targets.gpu.kernels.records import Records, empty
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

# fp32 pipe slots per element operation: CUDA C programming guide, arithmetic throughput (special functions
# run at a quarter rate; erf, tanh and pow are short instruction sequences of the CUDA math library).
SLOTS = {
    "add": 1.0,
    "mul": 1.0,
    "div": 8.0,
    "sqrt": 4.0,
    "exp": 6.0,
    "erf": 20.0,
    "tanh": 20.0,
    "log": 6.0,
    "pow": 30.0,
    "trig": 20.0,
    "max": 1.0,
    "cmp": 1.0,
    "cast": 1.0,
    "select": 1.0,
}


# One step of a recurrence: a multiply-add, an addition and a read of local memory that wait for each other
# (4 cycles each of the first two, about 20 of the last on Volta: Jia et al., arXiv 1804.06826), at 1.4 GHz.
STEP_US = 0.02


@dataclass(frozen=True, slots=True)
class VectorFit:
    """Fitted per device, times in us.

    `start_us`: kernel start. Kernels that reduce rows take `reduce_us` more, `row_us` per row on an SM (one
    block per row), and `reduce_passes` over the data. Then fractions of the DRAM, L2 and fp32 rates.
    `overlap`: the p of the p-norm. `l2_share`: reuse distance, in units of L2, beyond which all misses.
    """

    start_us: float
    reduce_us: float
    row_us: float
    reduce_passes: float
    memory_efficiency: float
    l2_efficiency: float
    compute_efficiency: float
    overlap: float
    l2_share: float
    l2_onset: float = 0.0


@dataclass(slots=True)
class VectorTime:
    """What a kernel takes, in us; `ideal_us`: its operations at the peak. Fields as in `GemmTime`."""

    time_us: float
    fixed_us: float
    ideal_us: float
    compute_us: float
    memory_us: float


@dataclass(frozen=True, eq=False)
class VectorRows:
    """R streaming kernels as columns."""

    bytes: NDArray[np.float64]  # [R] read and written
    slots: NDArray[np.float64]  # [R] fp32 pipe slots
    reduced_rows: NDArray[np.float64]  # [R] rows that are reduced, 0 for other kernels
    steps: NDArray[np.float64] | float = 0.0  # [R] that wait for each other, 0 where none does


def time_vectors(
    rows: VectorRows, dram_bytes: NDArray[np.float64], device: Device, fit: Records[VectorFit]
) -> Records[VectorTime]:
    """Time of each kernel at full clock. `fit`: one row."""
    out = empty(VectorTime, len(rows.bytes))
    price_vectors(
        dram_bytes,
        rows.bytes - dram_bytes,
        rows.slots,
        rows.reduced_rows,
        np.broadcast_to(np.asarray(rows.steps * STEP_US), rows.bytes.shape).copy(),
        fit,
        device.sm_count,
        float(device.peaks[FLOAT32]) / 2,
        device.dram_bytes_per_us,
        device.l2_bytes_per_us,
        out,
    )
    return out


@jit
def price_vectors(
    dram_bytes: NDArray[np.float64],
    l2_bytes: NDArray[np.float64],
    slots: NDArray[np.float64],  # fp32 pipe slots
    rows: NDArray[np.float64],  # rows that are reduced, 0 for other kernels
    chain_us: NDArray[np.float64],  # of the steps that wait for each other
    fits: Records[VectorFit],
    sm_count: int,
    fp32_rate: float,  # instructions per us (half the flops)
    dram_rate: float,  # bytes per us
    l2_rate: float,
    out: Records[VectorTime],
) -> None:
    """Time of each kernel."""
    fit = fits[0]
    for i in range(dram_bytes.shape[0]):
        here, p = out[i], fit.overlap
        mem = dram_bytes[i] / (dram_rate * fit.memory_efficiency)
        mem += l2_bytes[i] / (l2_rate * fit.l2_efficiency)
        comp = max(slots[i] / (fp32_rate * fit.compute_efficiency), chain_us[i])
        fixed = fit.start_us
        if rows[i] > 0:
            fixed += fit.reduce_us + fit.row_us * rows[i] / sm_count
            mem *= fit.reduce_passes
        high, low = max(comp, mem), min(comp, mem)
        body = high * (1.0 + (low / high) ** p) ** (1.0 / p) if high > 0 else 0.0
        here.time_us, here.fixed_us, here.ideal_us = fixed + body, fixed, slots[i] / fp32_rate
        here.compute_us, here.memory_us = comp, mem
