"""GEMM kernels as tiles on SMs.

A library kernel computes the output in tiles of TM x TN, one thread block each, `k` optionally split S ways.
The model follows one block and scales up:
 - a step multiplies 128 bytes of k per operand row; it takes the tensor cores' time, or, when too few bytes
   are in flight to hide it, the load latency over the pipeline stages that shared memory holds;
 - blocks run in waves over the SMs; co-resident blocks share the tensor cores and hide each other's latency;
   the last, partly filled wave costs a full step time (wave quantisation);
 - the panels of all blocks cross L2, the operands that L2 does not hold come from DRAM; the slowest of
   compute, L2 and DRAM rules, joined by a p-norm (p -> infinity: perfect overlap);
 - the epilogue of the last wave is exposed, that of earlier waves only in part;
 - split-k adds a reduction. The library is taken to choose the fastest candidate.

The fitted numbers per device and format (`GemmFit`) come from `benchmarks/fit_gpu.py`.
Model family: the tile and wave models of NeuSight (ASPLOS'25) and LLMCompass (ISCA'24), in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.device import FLOAT32, Device
from tetrasim.hw_targets.gpu.residency import Traffic
from tetrasim.hw_targets.gpu.tiles import simt_tiles, tensor_tiles
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 32], dtype=np.int64)
STEP_BYTES = 128  # of k per operand row and step: one shared-memory line
ACCUMULATORS = 32768  # fp32 accumulators that fit half an SM's register file: 128 x 256
MOST_RESIDENT = 3
ALWAYS_BEST = 1000.0  # `GemmFit.choice` from which the fastest candidate is taken as it is
OUT = ("time_us", "fixed_us", "ideal_us", "compute_us", "memory_us", "tile_m", "tile_n", "split", "blocks")


@dataclass(frozen=True, slots=True)
class GemmFit:
    """What only measurements tell about one device's GEMM kernels in one format.

    Times are in us.
    `start_us`: kernel start, first loads and last stores; `wave_us`: each further wave.
    `epilogue_us`: storing a 128 x 128 tile, of which `epilogue_exposed` is not hidden in earlier waves.
    `split_us`: the extra kernel or barrier of split-k; `reduce_efficiency` of the L2 rate for its partials.
    `compute_efficiency` of the peak for tiles of 128 x 128 and above, falling with the tile's side to the
    power `tile_exponent` below.
    `latency_us` of a load from L2, `dram_latency_us` on top from DRAM, hidden by at most `stages`.
    `l2_efficiency`, `read_efficiency`, `write_efficiency`: fractions of the L2 and DRAM rates.
    `overlap`: the p of the p-norm.
    `l2_share`: reuse distance, in units of L2, beyond which everything misses; `l2_onset`: the fraction of it
    at which misses begin.
    `quantise_us`, `quantise_passes`: the kernel that first turns 16-bit activations into 8 bits, and its
    passes over them at the DRAM rate.
    `choice`: the expected time is a mean over tiles, weighted by time to the power of minus this (large: the
    library always finds the best).
    `unaligned`: how much longer a step takes when rows of B or C do not start at 16 bytes (no vector loads).
    """

    start_us: float
    wave_us: float
    epilogue_us: float
    epilogue_exposed: float
    split_us: float
    reduce_efficiency: float
    compute_efficiency: float
    tile_exponent: float
    latency_us: float
    dram_latency_us: float
    stages: float
    l2_efficiency: float
    read_efficiency: float
    write_efficiency: float
    overlap: float
    l2_share: float
    l2_onset: float = 0.0
    quantise_us: float = 0.0
    quantise_passes: float = 0.0
    choice: float = ALWAYS_BEST
    unaligned: float = 1.0

    def row(self) -> tuple[float, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, eq=False)
class GemmRows:
    """R GEMMs as columns."""

    shape: NDArray[np.int64]  # [R, 4] batch, m, n, k
    bits: NDArray[np.int64]  # [R, 2] of an element of A and of B
    format: NDArray[np.int64]  # [R] index into `device.FORMATS`
    constant_b: NDArray[np.bool_]  # [R] B is a weight


def time_gemms(
    rows: GemmRows, traffic: Traffic, device: Device, fits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Time of each GEMM at full clock: [R, len(OUT)]. `fits` has one `GemmFit` row per format."""
    out = np.zeros((len(rows.format), len(OUT)))
    simt = rows.format == FLOAT32
    groups = (
        (simt & rows.constant_b, simt_tiles(device.architecture, batched=False)),
        (simt & ~rows.constant_b, simt_tiles(device.architecture, batched=True)),
        (~simt, tensor_tiles(device.architecture)),
    )
    for of_group, tiles in groups:
        at = np.flatnonzero(of_group)
        if not len(at):
            continue
        part = np.zeros((len(at), len(OUT)))
        price_gemms(
            rows.shape[at],
            rows.bits[at],
            traffic.read[at],
            traffic.written[at],
            np.where(rows.constant_b, traffic.far_miss, traffic.near_miss)[at],
            device.peaks[rows.format[at]],
            rows.format[at],
            fits,
            device.sm_count,
            device.shared_bytes,
            device.rates,
            tiles,
            SPLITS,
            part,
        )
        out[at] = part
    activations = rows.shape[:, :2].prod(axis=1) * rows.shape[:, 3] * 2.0
    passes = fits[rows.format, 18] * activations / device.rates[1]
    quantise = np.where(rows.bits[:, 1] == 8, fits[rows.format, 17] + passes, 0.0)
    out[:, :2] += quantise[:, None]
    return out


def executed_flops(rows: GemmRows, out: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flops that the chosen tiles execute, padding included."""
    return np.asarray(2.0 * out[:, 8] * out[:, 5] * out[:, 6] * rows.shape[:, 3] / np.maximum(out[:, 7], 1.0))


@jit
def _step_us(tm: int, tn: int, step_k: int, rate: float, aligned: bool, f: NDArray[np.float64]) -> float:
    """Tensor-core time of one step of one block at `rate` flops per us and SM."""
    reached = f[6] * min(1.0, math.sqrt(tm * tn) / 128.0) ** f[7]
    slower = 1.0 if aligned else float(f[20])
    return float(2.0 * tm * tn * step_k / (rate * reached) * slower)


@jit
def _candidate(
    cells: float,  # elements of C, all batches
    grid: int,  # tiles of C, all batches
    tile: int,  # elements of one
    split: int,
    steps: int,
    step_us: float,
    stage_bytes: float,
    b_miss: float,
    dram_us: float,
    limit: float,
    f: NDArray[np.float64],
    sm_count: int,
    shared_bytes: float,
    l2_rate: float,
) -> tuple[float, float, float, float]:
    """Time, fixed part, compute and memory time of one tile and split; infinite instead of above `limit`."""
    blocks = grid * split
    rounds = (blocks + sm_count - 1) // sm_count
    resident = min(max(float(ACCUMULATORS) / tile, 1.0), float(MOST_RESIDENT))
    stages = min(f[10], shared_bytes / (min(resident, float(rounds)) * stage_bytes))
    load_us = (f[8] + f[9] * b_miss) / max(stages - 1.0, 1.0)
    full = math.floor(blocks / (sm_count * resident))
    rest = math.ceil((blocks - full * sm_count * resident) / sm_count)
    compute = full * max(resident * step_us, load_us)
    last = resident
    if rest > 0:
        compute += max(rest * step_us, load_us)
        last = float(rest)
    compute *= steps
    l2_us = blocks * steps * stage_bytes / (l2_rate * f[11])
    fixed = f[0] + f[1] * (full - (0 if rest > 0 else 1))
    fixed += f[2] * (last + f[3] * (rounds - last)) * tile / 16384.0
    if split > 1:
        fixed += f[4] + cells * 8.0 * split / (l2_rate * f[5])
    memory = max(l2_us, dram_us)
    high = max(compute, memory)
    if fixed + high >= limit:
        return np.inf, fixed, compute, memory
    body = (compute / high) ** f[14] + (l2_us / high) ** f[14] + (dram_us / high) ** f[14]
    return fixed + high * body ** (1.0 / f[14]), fixed, compute, memory


@jit
def price_gemms(
    shape: NDArray[np.int64],  # [R, 4] batch, m, n, k
    bits: NDArray[np.int64],  # [R, 2] of an element of A and of B
    read_bytes: NDArray[np.float64],  # [R] from DRAM
    write_bytes: NDArray[np.float64],  # [R] to DRAM
    b_miss: NDArray[np.float64],  # [R] share of B that comes from DRAM
    peak: NDArray[np.float64],  # [R] flops per us
    fit_of: NDArray[np.int64],  # [R] row of fits
    fits: NDArray[np.float64],  # [F, GemmFit]
    sm_count: int,
    shared_bytes: float,  # per SM
    rates: NDArray[np.float64],  # bytes per us: L2, DRAM data sheet
    tiles: NDArray[np.int64],
    splits: NDArray[np.int64],
    out: NDArray[np.float64],  # [R, len(OUT)]
) -> None:
    """Time of each GEMM with its best tile and split; see `OUT` for the columns."""
    for i in range(shape.shape[0]):
        batch, m, n, k = shape[i, 0], shape[i, 1], shape[i, 2], shape[i, 3]
        f = fits[fit_of[i]]
        dram_us = read_bytes[i] / (rates[1] * f[12]) + write_bytes[i] / (rates[1] * f[13])
        step_k = STEP_BYTES * 8 // max(bits[i, 0], bits[i, 1])
        vector = 128 // max(bits[i, 0], bits[i, 1])
        aligned = k % vector == 0 and n % vector == 0
        all_steps = (k + step_k - 1) // step_k
        best, lowest, weights, expected = np.inf, np.inf, 0.0, 0.0
        for t in range(tiles.shape[0]):
            tm, tn = tiles[t, 0], tiles[t, 1]
            grid = batch * ((m + tm - 1) // tm) * ((n + tn - 1) // tn)
            stage_bytes = (tm * bits[i, 0] + tn * bits[i, 1]) * step_k / 8.0
            step_us = _step_us(tm, tn, step_k, peak[i] / sm_count, aligned, f)
            tile_best = np.inf
            for s in range(splits.shape[0]):
                steps = (all_steps + splits[s] - 1) // splits[s]
                split = (all_steps + steps - 1) // steps
                if split != splits[s] or (split > 1 and steps < 2):
                    continue
                time, fixed, compute, memory = _candidate(
                    float(batch * m * n), grid, tm * tn, split, steps, step_us, stage_bytes, b_miss[i],
                    dram_us, min(tile_best, 2.0 * best), f, sm_count, shared_bytes, rates[0],
                )  # fmt: skip
                tile_best = min(tile_best, time)
                if time < best:
                    best = time
                    out[i, 0], out[i, 1], out[i, 3], out[i, 4] = time, fixed, compute, memory
                    out[i, 5], out[i, 6], out[i, 7], out[i, 8] = tm, tn, split, grid * split
            if f[19] < ALWAYS_BEST and tile_best < 2.0 * best:
                if tile_best < lowest:
                    shrink = (tile_best / lowest) ** f[19]
                    weights, expected, lowest = weights * shrink, expected * shrink, tile_best
                weights += (lowest / tile_best) ** f[19]
                expected += (lowest / tile_best) ** f[19] * tile_best
        if f[19] < ALWAYS_BEST:
            out[i, 0] = expected / weights
        out[i, 2] = 2.0 * batch * m * n * k / peak[i]
