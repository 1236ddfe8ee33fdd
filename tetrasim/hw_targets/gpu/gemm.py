"""GEMM kernels as tiles on SMs.

A library kernel computes the output in tiles of TM x TN, one thread block each, `k` optionally split S ways.
The blocks run in waves: the SM that gets the most blocks sets the compute time. Each block streams its two
operand panels through L2 and shared memory, a pipelined main loop overlaps that with the tensor cores, so
the slower of the two rules (a p-norm joins them: perfect overlap is p -> infinity). Few blocks cannot fill
the memory pipe (Little's law), which is why small GEMMs run below the DRAM rate. The library is assumed to
choose the best candidate, as its heuristics are trained to.

The fitted numbers per device and format (`GemmFit`) come from `benchmarks/fit_gpu.py`.
Model family: the tile/wave models of NeuSight (ASPLOS'25) and LLMCompass (ISCA'24), reduced to closed form.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILES = np.array(
    [
        (256, 128),
        (128, 256),
        (192, 128),
        (128, 128),
        (128, 64),
        (64, 128),
        (64, 64),
        (256, 64),
        (64, 256),
        (32, 64),
        (64, 32),
        (16, 64),
        (64, 16),
        (32, 128),
        (16, 128),
    ],
    dtype=np.int64,
)
SPLITS = np.array([1, 2, 4, 8, 16], dtype=np.int64)
OUT = ("time_us", "fixed_us", "ideal_us", "compute_us", "memory_us", "tile_m", "tile_n", "split")


@dataclass(frozen=True, slots=True)
class GemmFit:
    """What only measurements tell about one device's GEMM kernels in one format.

    `start_us`: kernel start to first instruction plus epilogue drain; `wave_us`: prologue of each wave;
    `split_us`: reduction of split-k partials; `compute_efficiency` of the peak for 128 x 128 tiles and its
    decay `tile_exponent` for smaller ones; `memory_efficiency` of the DRAM data-sheet rate; `overlap`: the p
    of the p-norm.
    """

    start_us: float
    wave_us: float
    split_us: float
    compute_efficiency: float
    tile_exponent: float
    memory_efficiency: float
    overlap: float

    def row(self) -> tuple[float, ...]:
        return astuple(self)


@jit
def price_gemms(
    shape: NDArray[np.int64],  # [R, 4] batch, m, n, k
    dram_bytes: NDArray[np.float64],  # [R]
    peak: NDArray[np.float64],  # [R] flops per us
    fit_of: NDArray[np.int64],  # [R] row of fits
    fits: NDArray[np.float64],  # [F, GemmFit]
    sm_count: int,
    dram_rate: float,  # bytes per us, data sheet
    tiles: NDArray[np.int64],
    splits: NDArray[np.int64],
    out: NDArray[np.float64],  # [R, len(OUT)]
) -> None:
    """Time of each GEMM with its best tile and split; see `OUT` for the columns."""
    for i in range(shape.shape[0]):
        batch, m, n, k = shape[i, 0], shape[i, 1], shape[i, 2], shape[i, 3]
        start, wave_us, split_us, em, eta, ed, p = fits[fit_of[i], :7]
        best = np.inf
        ideal = 2.0 * batch * m * n * k / peak[i]
        for t in range(tiles.shape[0]):
            tm, tn = tiles[t, 0], tiles[t, 1]
            grid = batch * ((m + tm - 1) // tm) * ((n + tn - 1) // tn)
            occupancy = min(max(32768.0 / (tm * tn), 1.0), 3.0)
            scale = min(1.0, np.sqrt(tm * tn) / 128.0) ** eta
            for s in range(splits.shape[0]):
                split = splits[s]
                ks = (k + split - 1) // split
                ks = (ks + 63) // 64 * 64
                if split > 1 and ks * (split - 1) >= k:
                    continue
                blocks = grid * ((k + ks - 1) // ks)
                waves = np.ceil(blocks / (sm_count * occupancy))
                rounds = (blocks + sm_count - 1) // sm_count
                comp = rounds * 2.0 * tm * tn * ks / (peak[i] / sm_count * em * scale)
                fill = min(1.0, 2.0 * min(blocks, sm_count) / sm_count * occupancy)
                mem = dram_bytes[i] / (dram_rate * ed * fill**0.7)
                fixed = start + wave_us * waves
                if split > 1:
                    fixed += split_us * 0.5
                high, low = max(comp, mem), min(comp, mem)
                body = high * (1.0 + (low / high) ** p) ** (1.0 / p)
                if fixed + body < best:
                    best = fixed + body
                    out[i, 0], out[i, 1], out[i, 2] = best, fixed, ideal
                    out[i, 3], out[i, 4] = comp, mem
                    out[i, 5], out[i, 6], out[i, 7] = tm, tn, split
