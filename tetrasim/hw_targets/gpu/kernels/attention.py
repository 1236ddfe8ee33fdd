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
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.device import Device
from tetrasim.hw_targets.gpu.kernels.records import Records, array, empty, field_names, records
from tetrasim.sim.engine.jit import jit
from tetrasim.sim.ops.mask import Mask, Pattern

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLASH2, FLASH_DECODING, LEAN = 0, 1, 2
SCHEDULE_NAMES = ("flash2", "flash-decoding", "lean")
DECODE, PREFILL, ENCODER = 0, 1, 2
MOST_SCHEDULED = 992  # sequences up to which flash-attention 3 prepares its schedule on the device
TILE_K = 128
MOST_PACKED = 64  # query rows of one key head that are packed into one block
KERNELS = ("decode", "prefill", "encoder")


@dataclass(frozen=True, slots=True)
class SplitRule:
    """FlashDecoding's rule: blocks per SM that it counts, most splits, key tiles up to which it never splits;
    and the query rows of a block at head dims up to 64."""

    blocks_per_sm: int
    most_splits: int
    fewest_tiles: int
    wide_tile: int


# hopper: flash-attention 3; other: flash-attention 2.
SPLIT_RULES = {"hopper": SplitRule(1, 32, 4, 192), "other": SplitRule(2, 128, 0, 128)}


@dataclass(frozen=True, slots=True)
class AttentionDims:
    """The dims of an attention as a compiled loop reads them; `causal` is 0 or 1."""

    batch: int
    q_len: int
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    kv_len: int
    causal: int


@dataclass(slots=True)
class Touched:
    """What a mask leaves of a head: key tiles that its blocks touch together, the most of one block, and
    visible keys per query. -1 where the mask is full or causal, and all follows from the lengths."""

    key_tiles: int
    most: int
    pairs: float


SHAPE = field_names(AttentionDims)


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


@dataclass(slots=True)
class AttentionTime:
    """What an attention takes, in us, and the schedule, splits and thread blocks that were fastest. Fields as
    in `GemmTime`."""

    time_us: float
    fixed_us: float
    ideal_us: float
    compute_us: float
    memory_us: float
    l2_us: float
    dram_us: float
    schedule: int
    splits: int
    blocks: float


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """R attentions as columns."""

    shape: NDArray[np.int64]  # [R, len(SHAPE)]
    bits: NDArray[np.int64]  # [R] of a key element
    format: NDArray[np.int64]  # [R] index into `device.FORMATS`
    masks: tuple[Mask | Pattern | None, ...] = ()  # [R], or none at all: what `causal` does not say

    def touched(self, wide_tile: int) -> Records[Touched]:
        """What the masks leave. `wide_tile`: query rows of a block at small head dims."""
        found = [Touched(-1, -1, -1.0)] * len(self.bits)
        for i, mask in enumerate(self.masks):
            if mask is None:
                continue
            q_len, heads, kv_heads, head_dim, v_dim, kv_len = (int(n) for n in self.shape[i, 1:7])
            few = q_len * (heads // kv_heads) <= MOST_PACKED
            rows = q_len if few else query_tile(q_len, head_dim + v_dim, wide_tile)
            tiles = mask.tiles(q_len, kv_len, rows, TILE_K)
            found[i] = Touched(int(tiles.sum()), int(tiles.max()), mask.pairs(q_len, kv_len) / q_len)
        return records(Touched, found)

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
    fits: Records[AttentionFit],
) -> Records[AttentionTime]:
    """Time of each attention at full clock. `fits` has one row per kernel."""
    out, dims = empty(AttentionTime, len(rows.bits)), empty(AttentionDims, len(rows.bits))
    for at, name in enumerate(SHAPE):
        array(dims)[name] = rows.shape[:, at]
    rule = SPLIT_RULES["hopper" if device.architecture == "hopper" else "other"]
    price_attentions(
        dims,
        rows.touched(rule.wide_tile),
        rows.bits,
        dram_bytes,
        rows.new_bytes,
        device.peaks[rows.format],
        np.array(schedules, dtype=np.int64),
        fits,
        device.sm_count,
        records(SplitRule, [rule]),
        device.l2_bytes_per_us,
        device.dram_bytes_per_us,
        out,
    )
    return out


@jit
def query_tile(rows: int, width: int, wide_tile: int) -> int:
    """Query rows of a block. `width`: head dims of keys and values together."""
    if rows <= MOST_PACKED:
        return 64
    return wide_tile if width <= 128 else 128


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
def _busiest_sm(
    schedule: int,
    few: bool,  # the queries that share a key head fit one tile
    units: int,
    key_tiles: int,
    mean_tiles: float,
    block_us: float,
    tile_us: float,
    fit: AttentionFit,
    rule: SplitRule,
    sm_count: int,
) -> tuple[float, float, int, float]:
    """Time of the busiest SM, what joining splits adds, splits and blocks under one schedule."""
    if schedule == LEAN:
        total = units * mean_tiles
        blocks = float(lean_grid(math.ceil(total), 2 * sm_count))
        splits = min(math.ceil(blocks / units), key_tiles)
        busy = math.ceil(blocks / sm_count) * (math.ceil(total / blocks) * tile_us + block_us)
        joined = fit.combine_split_us * splits + block_us if splits > 1 else 0.0
        return busy, joined, splits, blocks
    if few:
        splits = 1
        if schedule == FLASH_DECODING:
            slots = rule.blocks_per_sm * sm_count
            splits = split_count(units, slots, key_tiles, rule.most_splits, rule.fewest_tiles)
        blocks = float(units) * splits
        busy = math.ceil(blocks / sm_count) * (block_us + math.ceil(key_tiles / splits) * tile_us)
        joined = fit.combine_us + fit.combine_split_us * splits if splits > 1 else 0.0
        return busy, joined, splits, blocks
    longest = block_us + key_tiles * tile_us
    busy = max(float(units) / sm_count * (block_us + mean_tiles * tile_us) + fit.tail * longest, longest)
    return busy, 0.0, 1, float(units)


@jit
def _start_us(a: AttentionDims, few: bool, new_bytes: float, dram_rate: float, fit: AttentionFit) -> float:
    """Kernel start with what the library does before: metadata, grouping of queries, copies of new keys."""
    start = fit.start_us
    start += fit.batch_us * a.batch if a.batch <= MOST_SCHEDULED else 0.0
    if few and a.batch > 1 and a.kv_heads > 1 and a.heads // a.kv_heads > 1:
        start += fit.regroup_us
    return start + fit.append_passes * new_bytes / dram_rate


@jit
def price_attentions(
    dims: Records[AttentionDims],
    masks: Records[Touched],
    bits: NDArray[np.int64],  # [R] of a key element
    dram_bytes: NDArray[np.float64],  # [R]
    new_bytes: NDArray[np.float64],  # [R] new keys and values that the library copies into its cache
    peak: NDArray[np.float64],  # [R] flops per us
    schedules: NDArray[np.int64],  # candidates; the fastest is taken
    fits: Records[AttentionFit],  # one per kernel of `KERNELS`
    sm_count: int,
    rules: Records[SplitRule],  # one row
    l2_rate: float,  # bytes per us
    dram_rate: float,  # bytes per us, data sheet
    out: Records[AttentionTime],
) -> None:
    """Time of each attention with its best schedule."""
    rule = rules[0]
    for i in range(bits.shape[0]):
        a, left, chosen = dims[i], masks[i], out[i]
        width, causal, group = a.head_dim + a.v_head_dim, a.causal != 0 and a.q_len > 1, a.heads // a.kv_heads
        fit = fits[DECODE if a.q_len == 1 else (PREFILL if causal else ENCODER)]
        few = a.q_len * group <= MOST_PACKED
        rows = a.q_len * group if few else a.q_len
        tile_q = query_tile(rows, width, rule.wide_tile)
        q_tiles = (rows + tile_q - 1) // tile_q
        units = a.batch * (a.kv_heads if few else a.heads) * q_tiles
        key_tiles = (a.kv_len + TILE_K - 1) // TILE_K
        mean_tiles = float(key_tiles)
        if causal and not few:
            mean_tiles = max(key_tiles - (q_tiles - 1) * 0.5 * tile_q / TILE_K, 0.5 * key_tiles)
        if left.key_tiles >= 0:
            key_tiles = max(left.most, 1)
            mean_tiles = min(mean_tiles, left.key_tiles / q_tiles)
        tile_bytes = TILE_K * width * bits[i] / 8.0
        tile_us = 2.0 * tile_q * TILE_K * width / (peak[i] / sm_count * fit.compute_efficiency)
        tile_us += fit.softmax_us * tile_q / 128.0
        tile_us = max(fit.tile_us * tile_bytes / 65536.0, tile_us)
        block_us = fit.block_us + fit.row_us * min(rows, tile_q) * width / 256.0
        chosen.l2_us = units * mean_tiles * tile_bytes / (l2_rate * fit.l2_efficiency)
        chosen.dram_us = dram_bytes[i] / (dram_rate * fit.read_efficiency)
        chosen.memory_us = memory = max(chosen.l2_us, chosen.dram_us)
        start = _start_us(a, few, new_bytes[i], dram_rate, fit)
        pairs = float(a.kv_len) - (a.q_len - 1) * 0.5 if causal else float(a.kv_len)
        pairs = left.pairs if left.key_tiles >= 0 else pairs
        chosen.ideal_us = 2.0 * a.batch * a.heads * width * a.q_len * pairs / peak[i]
        chosen.time_us = np.inf
        for schedule in schedules:
            busy, joined, splits, blocks = _busiest_sm(
                schedule, few, units, key_tiles, mean_tiles, block_us, tile_us, fit, rule, sm_count
            )
            high = max(busy, memory)
            body = (busy / high) ** fit.overlap + (memory / high) ** fit.overlap
            time = start + joined + high * body ** (1.0 / fit.overlap)
            if time < chosen.time_us:
                chosen.time_us, chosen.fixed_us, chosen.compute_us = time, start + joined, busy
                chosen.schedule, chosen.splits, chosen.blocks = schedule, splits, blocks
