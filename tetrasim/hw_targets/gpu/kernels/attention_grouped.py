"""ByteTransformer's attention for sequences above 128 tokens: two grouped products over the true lengths.

One product per sequence and head, all in one kernel whose blocks take tiles in turn. The kernel launches no
more blocks than one padded sequence has tiles (all heads together), so that short sequences leave SMs idle:
48 blocks for 256 tokens and 12 heads. Tiles are fixed: 128 x 128 for scores, 64 x 64 for the weighted sum.
The scores' epilogue scales, masks, takes the maximum, exponentiates and sums; the second kernel's prologue
exponentiates again. Blocks do that between main loops, on the CUDA cores.
Source: bytedance/ByteTransformer (Apache-2.0): cutlass_attention.cu (grid), cutlass_attention_defs.h (tiles),
cutlass_attention_operators.h (epilogue, prologue).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.calibration import Calibration
from tetrasim.hw_targets.gpu.config import GpuConfig
from tetrasim.hw_targets.gpu.device import FLOAT32, HALF, Device
from tetrasim.hw_targets.gpu.kernels import gemm, vector
from tetrasim.hw_targets.gpu.kernels.records import Records, array, empty
from tetrasim.hw_targets.gpu.packing import attention_share, sequence_lengths
from tetrasim.hw_targets.gpu.residency import Traffic
from tetrasim.sim.ops.work import Work

if TYPE_CHECKING:
    pass

SCORES, VALUES = "GroupedScores", "GroupedValues"
_BITS = 16  # the kernels exist in half precision only
# Per score: scale, mask (2), maximum, subtract, exp, sum, two casts; then subtract, exp, scale, two casts
_OPS = {
    SCORES: (("mul", 2), ("add", 3), ("max", 1), ("exp", 1), ("cast", 2)),
    VALUES: (("add", 1), ("exp", 1), ("mul", 1), ("cast", 2)),
}


@dataclass(frozen=True)
class Grid:
    """Tiles of one kernel, the blocks that share them, the k of a tile, and the softmax's work."""

    rows: int  # of a tile
    columns: int
    tiles: int
    blocks: int
    k: int
    slots: float  # of the CUDA cores, for the softmax


def grid_of(work: Work, config: GpuConfig) -> Grid:
    """Tiles and blocks of a grouped product, from the spread of the lengths. Keys are as many as queries, or
    those of a cache."""
    a = work.attention
    assert a is not None
    padded = round(a.q_len / attention_share(config.fill, config.packing, config.lengths))
    queries = sequence_lengths(padded, a.batch, config.fill, config.lengths)
    keys = queries if a.kv_len == a.q_len else (a.kv_len,) * a.batch
    most = padded if a.kv_len == a.q_len else a.kv_len
    side = 128 if work.op == SCORES else 64
    rows = [math.ceil(n / side) for n in queries]
    blocks = math.ceil(padded / side) * math.ceil(most / side)  # of scores in both kernels
    if work.op == SCORES:
        tiles, k = sum(r * math.ceil(n / side) for r, n in zip(rows, keys, strict=True)), a.head_dim
    else:
        tiles = math.ceil(a.v_head_dim / side) * sum(rows)
        k = math.ceil(sum(r * n for r, n in zip(rows, keys, strict=True)) / sum(rows))
    scores = tiles * a.heads * side * (side if work.op == SCORES else k)
    slots = scores * sum(vector.SLOTS[kind] * count for kind, count in _OPS[work.op])
    return Grid(side, side, tiles * a.heads, blocks * a.heads, k, slots)


def grids_of(works: Sequence[Work], config: GpuConfig) -> tuple[tuple[int, Grid], ...]:
    """Positions and grids of the grouped products among `works`; in other formats they are priced as any."""
    found = ((i, w) for i, w in enumerate(works) if w.op in _OPS and w.operand("a").bits == _BITS)
    return tuple((i, grid_of(work, config)) for i, work in found)


def time_grid(grid: Grid, traffic: Traffic, device: Device, fit: Calibration) -> Records[gemm.GemmTime]:
    """Time of a grouped product whose only row of `traffic` is its own: one row."""
    busy = min(device.sm_count, grid.blocks)
    row = empty(gemm.GemmTime, 1)
    gemm.price_gemms(
        np.array([[grid.tiles, grid.rows, grid.columns, grid.k]], dtype=np.int64),
        np.array([[_BITS, _BITS]], dtype=np.int64),
        traffic.read,
        traffic.written,
        traffic.near_miss,
        device.peaks[HALF : HALF + 1] * busy / device.sm_count,
        np.array([HALF], dtype=np.int64),
        fit.products[True],
        busy,
        device.shared_bytes,
        device.l2_bytes_per_us,
        device.dram_bytes_per_us,
        np.array([[grid.rows, grid.columns]], dtype=np.int64),
        np.array([1], dtype=np.int64),
        row,
    )
    rate = device.peaks[FLOAT32] / 2 * busy / device.sm_count * fit.vector.compute_efficiency
    array(row)["time_us"] += grid.slots / rate
    array(row)["compute_us"] += grid.slots / rate
    array(row)["ideal_us"] *= busy / device.sm_count
    return row
