"""Attention kernels: FlashAttention-2 and -3, FlashDecoding, LeanAttention's stream-K.

A thread block owns a tile of query rows of one head and walks over the keys in tiles, keeping the softmax
running (m, l, O); when queries are few, those of the heads that share a key head are packed into one tile.
 - FlashAttention (Dao 2023): one block per (batch, head, query tile).
 - FlashDecoding: the keys of one tile are split over S blocks, S from the library's own rule, and a combine
   kernel joins the partial results.
 - LeanAttention (2024): the key tiles of all heads are dealt out evenly over one wave of blocks; the block
   that starts a head joins the partial results of the others.
Time = kernel start + max over (busiest SM, L2, DRAM) joined by a p-norm + combine. The busiest SM pays
`block_us` per block (queries in, output out, softmax end) and `tile_us` per key tile, or the tensor cores'
time when that is longer. Tile sizes and split rules: flash-attention, csrc/flash_attn/flash_api.cpp and
hopper/heuristics.h; stream-K grid: onnxruntime contrib_ops/cuda/bert/lean_attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.device import Device
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLASH2, FLASH_DECODING, LEAN = 0, 1, 2
SCHEDULE_NAMES = ("flash2", "flash-decoding", "lean")
OUT = ("time_us", "fixed_us", "ideal_us", "compute_us", "memory_us", "schedule", "splits", "blocks")
SHAPE = ("batch", "q_len", "heads", "kv_heads", "head_dim", "v_head_dim", "kv_len", "causal", "window")
DECODE, PREFILL, ENCODER = 0, 1, 2
MOST_SCHEDULED = 992  # sequences up to which flash-attention 3 prepares its schedule on the device
TILE_K = 128
KERNELS = ("decode", "prefill", "encoder")

# Of the split rule: blocks per SM it counts, most splits, key tiles up to which it never splits; then the
# query rows of a block at head dims up to 64. hopper: flash-attention 3; other: flash-attention 2.
SPLIT_RULES = {"hopper": (1, 32, 4, 192), "other": (2, 128, 0, 128)}


@dataclass(frozen=True, slots=True)
class AttentionFit:
    """Fitted per device and kernel (decode, causal prefill, bidirectional encoder); times in us.

    `start_us`, `batch_us`: kernel start with the library's metadata kernels, and per sequence.
    `block_us`, `row_us`, `tile_us`: on one SM per block, per query row in it (head dim 128) and per key tile
    of 128 x 128 half-precision keys and values. `softmax_us`: of a 128 x 128 tile of scores, as far as it is
    not hidden behind the tensor cores. `tail`: share of the longest block that ends after all others.
    `combine_us`, `combine_split_us`: the kernel that joins splits, fixed and per split. `regroup_us`: copies
    that bring grouped queries together (batch and key heads above one). `append_passes`: passes over the
    new keys and values at the DRAM rate before the attention (the library copies them into its cache).
    `compute_efficiency` of the peak, then fractions of the L2 and DRAM rates. `overlap`: the p of the p-norm.
    `l2_share`: reuse distance, in units of L2, beyond which everything misses.
    """

    start_us: float
    batch_us: float
    block_us: float
    row_us: float
    tile_us: float
    softmax_us: float
    tail: float
    combine_us: float
    combine_split_us: float
    regroup_us: float
    append_passes: float
    compute_efficiency: float
    l2_efficiency: float
    read_efficiency: float
    overlap: float
    l2_share: float
    l2_onset: float = 0.0

    def row(self) -> tuple[float, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """R attentions as columns."""

    shape: NDArray[np.int64]  # [R, len(SHAPE)]
    bits: NDArray[np.int64]  # [R] of a key element
    format: NDArray[np.int64]  # [R] index into `device.FORMATS`

    @property
    def new_bytes(self) -> NDArray[np.float64]:
        """New keys and values: as many rows as queries."""
        batch, q_len, _, kv_heads, head_dim, v_dim, kv_len = self.shape[:, :7].T.astype(np.float64)
        return np.asarray(batch * np.minimum(q_len, kv_len) * kv_heads * (head_dim + v_dim) * self.bits / 8)

    @property
    def kernel(self) -> NDArray[np.int64]:
        """[R] index into `KERNELS`."""
        causal = np.where(self.shape[:, 7] != 0, PREFILL, ENCODER)
        return np.where(self.shape[:, 1] == 1, DECODE, causal)


def time_attentions(
    rows: AttentionRows,
    dram_bytes: NDArray[np.float64],
    schedules: tuple[int, ...],
    device: Device,
    fits: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Time of each attention at full clock: [R, len(OUT)]. `fits` has one `AttentionFit` row per kernel."""
    out = np.zeros((len(rows.bits), len(OUT)))
    rule = SPLIT_RULES["hopper" if device.architecture == "hopper" else "other"]
    price_attentions(
        rows.shape,
        rows.bits,
        dram_bytes,
        rows.new_bytes,
        device.peaks[rows.format],
        np.array(schedules, dtype=np.int64),
        fits,
        device.sm_count,
        np.array(rule[:3], dtype=np.int64),
        rule[3],
        device.rates,
        out,
    )
    return out


@jit
def split_count(units: int, slots: int, key_tiles: int, most: int, fewest_tiles: int) -> int:
    """FlashDecoding's number of splits: the smallest eligible one with 85 % of the best wave efficiency.

    Args:
        units: blocks without splitting (batch x key heads x query tiles).
        slots: blocks that run at once: 2 x SMs in flash-attention 2, SMs in 3.
        key_tiles: tiles of keys per unit.
        most: largest number of splits.
        fewest_tiles: no split at or below this many key tiles.
    """
    if units >= 0.8 * slots or key_tiles <= fewest_tiles:
        return 1
    limit = min(most, slots, key_tiles)
    best = 0.0
    for s in range(1, limit + 1):
        if s == 1 or (key_tiles + s - 1) // s != (key_tiles + s - 2) // (s - 1):
            waves = units * s / slots
            best = max(best, waves / math.ceil(waves))
    for s in range(1, limit + 1):
        if s == 1 or (key_tiles + s - 1) // s != (key_tiles + s - 2) // (s - 1):
            waves = units * s / slots
            if waves / math.ceil(waves) >= 0.85 * best:
                return s
    return 1


@jit
def lean_grid(total_tiles: int, slots: int) -> int:
    """Blocks that LeanAttention launches: one wave, or fewer when there is little work."""
    if total_tiles > slots:
        return slots
    return max(1, (total_tiles + 1) // 2)


@jit
def price_attentions(
    shape: NDArray[np.int64],  # [R, len(SHAPE)]
    bits: NDArray[np.int64],  # [R] of a key element
    dram_bytes: NDArray[np.float64],  # [R]
    new_bytes: NDArray[np.float64],  # [R] new keys and values that the library copies into its cache
    peak: NDArray[np.float64],  # [R] flops per us
    schedules: NDArray[np.int64],  # candidates; the fastest is taken
    fits: NDArray[np.float64],  # [len(KERNELS), AttentionFit]
    sm_count: int,
    rules: NDArray[np.int64],  # blocks per SM the split rule counts, most splits, fewest key tiles
    wide_tile: int,  # query rows per block at head dims up to 64
    rates: NDArray[np.float64],  # bytes per us: L2, DRAM data sheet
    out: NDArray[np.float64],  # [R, len(OUT)]
) -> None:
    """Time of each attention with its best schedule; see `OUT` for the columns."""
    for i in range(shape.shape[0]):
        batch, q_len, heads, kv_heads = shape[i, 0], shape[i, 1], shape[i, 2], shape[i, 3]
        width, kv_len, causal = shape[i, 4] + shape[i, 5], shape[i, 6], shape[i, 7] != 0 and q_len > 1
        group = heads // kv_heads
        few = q_len * group <= 64
        kernel = DECODE if q_len == 1 else (PREFILL if causal else ENCODER)
        start, batch_us, block_us, row_us, load_us, softmax_us, tail = fits[kernel, :7]
        combine, combine_split, regroup, append, reached, l2_part, dram_part, p = fits[kernel, 7:15]
        rows = q_len * group if few else q_len
        tile_q = 64 if rows <= 64 else (wide_tile if width <= 128 else 128)
        q_tiles = (rows + tile_q - 1) // tile_q
        units = batch * (kv_heads if few else heads) * q_tiles
        visible = min(kv_len, shape[i, 8]) if shape[i, 8] > 0 else kv_len
        key_tiles = (visible + TILE_K - 1) // TILE_K
        mean_tiles = float(key_tiles)
        if causal and not few:
            mean_tiles = max(key_tiles - (q_tiles - 1) * 0.5 * tile_q / TILE_K, 0.5 * key_tiles)
        tile_bytes = TILE_K * width * bits[i] / 8.0
        tile_us = 2.0 * tile_q * TILE_K * width / (peak[i] / sm_count * reached)
        tile_us += softmax_us * tile_q / 128.0
        tile_us = max(load_us * tile_bytes / 65536.0, tile_us)
        block_us += row_us * min(rows, tile_q) * width / 256.0
        total = units * mean_tiles
        l2_us = total * tile_bytes / (rates[0] * l2_part)
        memory = max(l2_us, dram_bytes[i] / (rates[1] * dram_part))
        start += batch_us * batch if batch <= MOST_SCHEDULED else 0.0
        if few and batch > 1 and kv_heads > 1 and group > 1:
            start += regroup
        start += append * new_bytes[i] / rates[1]
        pairs = float(visible) - (q_len - 1) * 0.5 if causal else float(visible)
        out[i, 2] = 2.0 * batch * heads * width * q_len * pairs / peak[i]
        best = np.inf
        for j in range(schedules.shape[0]):
            blocks, splits, fixed = float(units), 1, start
            longest = block_us + key_tiles * tile_us
            if schedules[j] == LEAN:
                blocks = float(lean_grid(math.ceil(total), 2 * sm_count))
                splits = min(math.ceil(blocks / units), key_tiles)
                busy = math.ceil(blocks / sm_count) * (math.ceil(total / blocks) * tile_us + block_us)
                if splits > 1:
                    fixed += combine_split * splits + block_us
            elif schedules[j] == FLASH_DECODING and few:
                splits = split_count(units, rules[0] * sm_count, key_tiles, rules[1], rules[2])
                blocks *= splits
                busy = math.ceil(blocks / sm_count) * (block_us + math.ceil(key_tiles / splits) * tile_us)
                if splits > 1:
                    fixed += combine + combine_split * splits
            elif few:
                busy = math.ceil(blocks / sm_count) * (block_us + key_tiles * tile_us)
            else:
                busy = max(blocks / sm_count * (block_us + mean_tiles * tile_us) + tail * longest, longest)
            high = max(busy, memory)
            body = (busy / high) ** p + (memory / high) ** p
            time = fixed + high * body ** (1.0 / p)
            if time < best:
                best = time
                out[i, 0], out[i, 1], out[i, 3], out[i, 4] = time, fixed, busy, memory
                out[i, 5], out[i, 6], out[i, 7] = schedules[j], splits, blocks
