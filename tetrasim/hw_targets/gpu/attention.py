"""Attention kernels: FlashAttention-2, FlashDecoding, LeanAttention's stream-K.

A thread block owns a tile of query rows of one head and walks over the keys in tiles, keeping the softmax
running (m, l, O); queries of the heads that share a key head are packed into one tile where that fills it.
 - FlashAttention-2 (Dao 2023): one block per (batch, key head, query tile).
 - FlashDecoding: the keys of one tile are split over S blocks, S from the library's own rule
   (flash-attention, csrc/flash_attn/flash_api.cpp, num_splits_heuristic), and a combine kernel joins them.
 - LeanAttention (2024): the key tiles of all heads are dealt out evenly over one wave of blocks, the block
   that starts a head joins the partial results.
The time is the busiest SM's: its tiles at the tensor-core rate, joined by a p-norm with the DRAM time.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLASH2, FLASH_DECODING, LEAN = 0, 1, 2
OUT = ("time_us", "fixed_us", "ideal_us", "compute_us", "memory_us", "schedule", "splits", "blocks")
SHAPE = ("batch", "q_len", "heads", "kv_heads", "head_dim", "v_head_dim", "kv_len", "causal", "window")


@dataclass(frozen=True, slots=True)
class AttentionFit:
    """Fitted per device: kernel start, cost per wave, combine kernel, fractions of the peaks, overlap p."""

    start_us: float
    wave_us: float
    combine_us: float
    compute_efficiency: float
    memory_efficiency: float
    overlap: float
    l2_share: float

    def row(self) -> tuple[float, ...]:
        return astuple(self)


@jit
def split_count(batch_heads_tiles: int, sm_count: int, key_blocks: int, most: int) -> int:
    """FlashDecoding's number of splits (flash-attention's num_splits_heuristic, `sm_count` = 2 x SMs there).

    The smallest eligible split whose wave efficiency reaches 85 % of the best one.
    """
    if batch_heads_tiles >= 0.8 * sm_count:
        return 1
    limit = min(most, sm_count, key_blocks)
    best = 0.0
    for s in range(1, limit + 1):
        if s > 1 and (key_blocks + s - 1) // s == (key_blocks + s - 2) // (s - 1):
            continue
        waves = batch_heads_tiles * s / sm_count
        best = max(best, waves / np.ceil(waves))
    for s in range(1, limit + 1):
        if s > 1 and (key_blocks + s - 1) // s == (key_blocks + s - 2) // (s - 1):
            continue
        waves = batch_heads_tiles * s / sm_count
        if waves / np.ceil(waves) >= 0.85 * best:
            return s
    return 1


@jit
def price_attentions(
    shape: NDArray[np.int64],  # [R, len(SHAPE)]
    dram_bytes: NDArray[np.float64],  # [R]
    peak: NDArray[np.float64],  # [R] flops per us
    schedules: NDArray[np.int64],  # candidates, the best is taken
    fit: NDArray[np.float64],  # [AttentionFit]
    sm_count: int,
    dram_rate: float,
    out: NDArray[np.float64],  # [R, len(OUT)]
) -> None:
    """Time of each attention with its best schedule; see `OUT` for the columns."""
    start, wave_us, combine_us, em, ed, p = fit[:6]
    for i in range(shape.shape[0]):
        batch, q_len, heads, kv_heads = shape[i, 0], shape[i, 1], shape[i, 2], shape[i, 3]
        width = shape[i, 4] + shape[i, 5]
        kv_len, causal = shape[i, 6], shape[i, 7]
        group = heads // kv_heads
        packed = q_len * group if q_len < 64 else q_len
        units = batch * (kv_heads if q_len < 64 else heads)
        tile_q = 64 if packed <= 64 else 128
        tile_k = 128 if shape[i, 4] <= 64 else 64
        q_tiles = (packed + tile_q - 1) // tile_q
        visible = kv_len if not shape[i, 8] else min(kv_len, shape[i, 8])
        key_tiles = (visible + tile_k - 1) // tile_k
        mean_tiles = float(key_tiles)
        if causal and q_len >= 64:
            mean_tiles = key_tiles - (q_tiles - 1) / 2.0 * (tile_q / tile_k)
        tile_us = 2.0 * tile_q * tile_k * width / (peak[i] / sm_count * em)
        mem_full = dram_bytes[i] / (dram_rate * ed)
        ideal = 2.0 * batch * heads * width * q_len * visible / peak[i]
        if causal and q_len > 1:
            ideal *= (visible - (q_len - 1) / 2.0) / visible
        best = np.inf
        for j in range(schedules.shape[0]):
            schedule = schedules[j]
            blocks = units * q_tiles
            splits, fixed = 1, start
            if schedule == FLASH_DECODING:
                splits = split_count(blocks, 2 * sm_count, key_tiles, 128)
                if splits > 1:
                    fixed += combine_us
            total = blocks * mean_tiles
            if schedule == LEAN:
                grid = min(2.0 * sm_count, max(1.0, (total + 1) // 2))
                busiest = np.ceil(total / grid) * np.ceil(grid / sm_count)
                blocks_run = grid
                fixed += combine_us * 0.25
            else:
                per = np.ceil(key_tiles / splits) if splits > 1 else mean_tiles
                busiest = np.ceil(blocks * splits / sm_count) * per
                if causal and q_len >= 64:
                    busiest = max(total / sm_count, float(key_tiles))
                blocks_run = float(blocks * splits)
            waves = np.ceil(blocks_run / (2.0 * sm_count))
            comp = busiest * tile_us
            mem = mem_full / min(1.0, blocks_run / sm_count) ** 0.7
            fixed += wave_us * waves
            high, low = max(comp, mem), min(comp, mem)
            body = high * (1.0 + (low / high) ** p) ** (1.0 / p) if high > 0 else 0.0
            if fixed + body < best:
                best = fixed + body
                out[i, 0], out[i, 1], out[i, 2] = best, fixed, ideal
                out[i, 3], out[i, 4] = comp, mem
                out[i, 5], out[i, 6], out[i, 7] = schedule, splits, blocks_run
