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

The fitted numbers per device and format (`GemmFit`) come from `tetrasim calibrate gpu`.
Model family: the tile and wave models of NeuSight (ASPLOS'25) and LLMCompass (ISCA'24), in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.device import FLOAT32, Device
from tetrasim.hw_targets.gpu.kernels.records import Records, array, column, empty, put
from tetrasim.hw_targets.gpu.kernels.tiles import simt_tiles, tensor_tiles
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.hw_targets.gpu.residency import Traffic

SPLITS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 32], dtype=np.int64)
STEP_BYTES = 128  # of k per operand row and step: one shared-memory line
ACCUMULATORS = 32768  # fp32 accumulators that fit half an SM's register file: 128 x 256
MOST_RESIDENT = 3
ALWAYS_BEST = 1000.0  # `GemmFit.choice` from which the fastest candidate is taken as it is


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


@dataclass(slots=True)
class GemmTime:
    """What a GEMM takes, in us, and the tile, split and number of thread blocks that the library chose.
    `ideal_us`: at the peak; `fixed_us`: outside the steady state; `compute_us`, `memory_us`: what of it the
    tensor cores and the slower of L2 and DRAM are busy with (`l2_us`, `dram_us`)."""

    time_us: float
    fixed_us: float
    ideal_us: float
    compute_us: float
    memory_us: float
    l2_us: float
    dram_us: float
    tile_m: int
    tile_n: int
    split: int
    blocks: int


@dataclass(frozen=True, eq=False)
class GemmRows:
    """R GEMMs as columns."""

    shape: NDArray[np.int64]  # [R, 4] batch, m, n, k
    bits: NDArray[np.int64]  # [R, 2] of an element of A and of B
    format: NDArray[np.int64]  # [R] index into `device.FORMATS`
    constant_b: NDArray[np.bool_]  # [R] B is a weight


def time_gemms(rows: GemmRows, traffic: Traffic, device: Device, fits: Records[GemmFit]) -> Records[GemmTime]:
    """Time of each GEMM at full clock. `fits` has one row per format."""
    out = empty(GemmTime, len(rows.format))
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
        part = empty(GemmTime, len(at))
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
            device.l2_bytes_per_us,
            device.dram_bytes_per_us,
            tiles,
            SPLITS,
            part,
        )
        put(out, at, part)
    activations = rows.shape[:, :2].prod(axis=1) * rows.shape[:, 3] * 2.0
    passes = column(fits, "quantise_passes")[rows.format] * activations / device.dram_bytes_per_us
    start = column(fits, "quantise_us")[rows.format]
    quantise = np.where(rows.bits[:, 1] == 8, start + passes, 0.0)
    array(out)["time_us"] += quantise
    array(out)["fixed_us"] += quantise
    return out


def executed_flops(rows: GemmRows, out: Records[GemmTime]) -> NDArray[np.float64]:
    """Flops that the chosen tiles execute, padding included."""
    tiles = 2.0 * column(out, "blocks") * column(out, "tile_m") * column(out, "tile_n")
    return np.asarray(tiles * rows.shape[:, 3] / np.maximum(column(out, "split"), 1.0))


@jit
def _step_us(tm: int, tn: int, step_k: int, rate: float, aligned: bool, fit: GemmFit) -> float:
    """Tensor-core time of one step of one block at `rate` flops per us and SM."""
    reached = fit.compute_efficiency * min(1.0, math.sqrt(tm * tn) / 128.0) ** fit.tile_exponent
    slower = 1.0 if aligned else float(fit.unaligned)
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
    fit: GemmFit,
    sm_count: int,
    shared_bytes: float,
    l2_rate: float,
) -> tuple[float, float, float, float]:
    """Time, fixed part, compute and L2 time of one tile and split; infinite instead of above `limit`."""
    blocks = grid * split
    rounds = (blocks + sm_count - 1) // sm_count
    resident = min(max(float(ACCUMULATORS) / tile, 1.0), float(MOST_RESIDENT))
    stages = min(fit.stages, shared_bytes / (min(resident, float(rounds)) * stage_bytes))
    load_us = (fit.latency_us + fit.dram_latency_us * b_miss) / max(stages - 1.0, 1.0)
    full = math.floor(blocks / (sm_count * resident))
    rest = math.ceil((blocks - full * sm_count * resident) / sm_count)
    compute = full * max(resident * step_us, load_us)
    last = resident
    if rest > 0:
        compute += max(rest * step_us, load_us)
        last = float(rest)
    compute *= steps
    l2_us = blocks * steps * stage_bytes / (l2_rate * fit.l2_efficiency)
    fixed = fit.start_us + fit.wave_us * (full - (0 if rest > 0 else 1))
    fixed += fit.epilogue_us * (last + fit.epilogue_exposed * (rounds - last)) * tile / 16384.0
    if split > 1:
        fixed += fit.split_us + cells * 8.0 * split / (l2_rate * fit.reduce_efficiency)
    high = max(compute, l2_us, dram_us)
    if fixed + high >= limit:
        return np.inf, fixed, compute, l2_us
    p = fit.overlap
    body = (compute / high) ** p + (l2_us / high) ** p + (dram_us / high) ** p
    return fixed + high * body ** (1.0 / p), fixed, compute, l2_us


@jit
def price_gemms(
    shape: NDArray[np.int64],  # [R, 4] batch, m, n, k
    bits: NDArray[np.int64],  # [R, 2] of an element of A and of B
    read_bytes: NDArray[np.float64],  # [R] from DRAM
    write_bytes: NDArray[np.float64],  # [R] to DRAM
    b_miss: NDArray[np.float64],  # [R] share of B that comes from DRAM
    peak: NDArray[np.float64],  # [R] flops per us
    fit_of: NDArray[np.int64],  # [R] row of fits
    fits: Records[GemmFit],
    sm_count: int,
    shared_bytes: float,  # per SM
    l2_rate: float,  # bytes per us
    dram_rate: float,  # bytes per us, data sheet
    tiles: NDArray[np.int64],
    splits: NDArray[np.int64],
    out: Records[GemmTime],
) -> None:
    """Time of each GEMM with its best tile and split."""
    for i in range(shape.shape[0]):
        batch, m, n, k = shape[i, 0], shape[i, 1], shape[i, 2], shape[i, 3]
        fit, chosen = fits[fit_of[i]], out[i]
        dram_us = read_bytes[i] / (dram_rate * fit.read_efficiency)
        dram_us += write_bytes[i] / (dram_rate * fit.write_efficiency)
        step_k = STEP_BYTES * 8 // max(bits[i, 0], bits[i, 1])
        vector = 128 // max(bits[i, 0], bits[i, 1])
        aligned = k % vector == 0 and n % vector == 0
        all_steps = (k + step_k - 1) // step_k
        best, lowest, weights, expected = np.inf, np.inf, 0.0, 0.0
        for t in range(tiles.shape[0]):
            tm, tn = tiles[t, 0], tiles[t, 1]
            grid = batch * ((m + tm - 1) // tm) * ((n + tn - 1) // tn)
            stage_bytes = (tm * bits[i, 0] + tn * bits[i, 1]) * step_k / 8.0
            step_us = _step_us(tm, tn, step_k, peak[i] / sm_count, aligned, fit)
            tile_best = np.inf
            for s in range(splits.shape[0]):
                steps = (all_steps + splits[s] - 1) // splits[s]
                split = (all_steps + steps - 1) // steps
                if split != splits[s] or (split > 1 and steps < 2):
                    continue
                time, fixed, compute, l2_us = _candidate(
                    float(batch * m * n), grid, tm * tn, split, steps, step_us, stage_bytes, b_miss[i],
                    dram_us, min(tile_best, 2.0 * best), fit, sm_count, shared_bytes, l2_rate,
                )  # fmt: skip
                tile_best = min(tile_best, time)
                if time < best:
                    best = time
                    chosen.time_us, chosen.fixed_us, chosen.compute_us = time, fixed, compute
                    chosen.memory_us, chosen.l2_us, chosen.dram_us = max(l2_us, dram_us), l2_us, dram_us
                    chosen.tile_m, chosen.tile_n, chosen.split, chosen.blocks = tm, tn, split, grid * split
            if fit.choice < ALWAYS_BEST and tile_best < 2.0 * best:
                if tile_best < lowest:
                    shrink = (tile_best / lowest) ** fit.choice
                    weights, expected, lowest = weights * shrink, expected * shrink, tile_best
                weights += (lowest / tile_best) ** fit.choice
                expected += (lowest / tile_best) ** fit.choice * tile_best
        if fit.choice < ALWAYS_BEST:
            chosen.time_us = expected / weights
        chosen.ideal_us = 2.0 * batch * m * n * k / peak[i]
