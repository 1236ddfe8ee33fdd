"""Time of blocked matrix products.

C[m,n] += A[m,k] B[k,n] is computed in register tiles of `tile_rows` x `tile_cols`. Per depth step a tile of r
rows takes r * cols multiply-adds, and never less than the latency of one FMA chain (few rows cannot fill the
pipeline). Tiles are padded, not shrunk, in columns; the last rows run as half a tile and a shorter one.
Constant operands were packed once, before the first run; activations are packed at every product.
Source: the structure of BLIS (Van Zee, van de Geijn, ACM TOMS 41(3), 2015) and of MLAS in onnxruntime.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.hw_targets.cpu.config import GemmConfig
from tetrasim.sim.ops.work import Gemm

# MLAS gives a thread at least this many multiply-adds (onnxruntime, mlas/lib: SGEMM thread complexity).
MACS_PER_THREAD = 64 * 1024
COLS_PER_STRIP = 16  # MLAS_SGEMM_STRIDEN_THREAD_ALIGN


@dataclass(frozen=True, slots=True)
class GemmCycles:
    """Cycles of the busiest thread: at the multiply-add peak, and everything the tiles add to it."""

    threads: int
    ideal: float
    tiles: float
    packing: float

    @property
    def total(self) -> float:
        return self.ideal + self.tiles + self.packing


def reread_bytes(gemm: Gemm, config: GemmConfig, bits: int) -> tuple[int, int]:
    """Bytes of A and C that pass again, and the working set that they pass through.

    Panels of `col_block` columns and `depth_block` rows of B are kept close; A passes once per column panel
    and C once more, read and written, per further depth panel.
    """
    a, c = gemm.m * gemm.k * bits // 8, gemm.m * gemm.n * 4
    a_again = a * (-(-gemm.n // config.col_block) - 1)
    c_again = 2 * c * (-(-gemm.k // config.depth_block) - 1)
    return gemm.batch * (a_again + c_again), a + gemm.m * config.col_block * 4


def gemm_cycles(gemm: Gemm, config: GemmConfig, mac_rate: float, bits: int, threads: int) -> GemmCycles:
    """Cycles of `gemm` on `threads` cores that do `mac_rate` multiply-adds per cycle, data at hand."""
    n, k = gemm.n, gemm.k
    if not gemm.macs:
        return GemmCycles(1, 0.0, 0.0, 0.0)
    used = min(threads, gemm.macs // MACS_PER_THREAD + 1)
    rows, cols, rounds = _share(gemm, used)
    cols = -(-cols // config.col_granularity) * config.col_granularity
    heights = _tile_heights(rows, config.tile_rows)
    step = sum(count * _step(height, cols, config, mac_rate) for height, count in heights)
    row_tiles = sum(count for _, count in heights)
    starts = row_tiles * -(-cols // config.tile_cols) * -(-k // config.depth_block)
    alone = step * k + starts * config.tile_overhead_cycles + config.call_overhead_cycles
    busiest = rounds * alone
    ideal = gemm.macs / (mac_rate * used)
    packing = 0.0
    if not gemm.weight_is_b and gemm.m > 1:
        # A single row uses every element once: there is nothing to pack for.
        packing = gemm.batch * k * n * bits / 8 / config.pack_bytes_per_cycle / used
    return GemmCycles(used, min(ideal, busiest), max(busiest - ideal, 0.0), packing)


def _share(gemm: Gemm, threads: int) -> tuple[int, int, int]:
    """(rows, columns, how many after the other) of the busiest thread, as MLAS divides the work: each
    product of a batch into columns where there are more of them than rows (16 at a time), else into rows."""
    parts = -(-threads // gemm.batch)
    if gemm.n > gemm.m:
        strips = -(-gemm.n // COLS_PER_STRIP)
        parts = min(parts, strips)
        rows, cols = gemm.m, min(-(-strips // parts) * COLS_PER_STRIP, gemm.n)
    else:
        parts = min(parts, gemm.m)
        rows, cols = -(-gemm.m // parts), gemm.n
    return rows, cols, -(-gemm.batch * parts // threads)


def _tile_heights(m: int, tile_rows: int) -> tuple[tuple[int, int], ...]:
    """(rows, how many): whole tiles, then half a tile if it fits, then the rest as one short tile."""
    full, rest = divmod(m, tile_rows)
    half = max(tile_rows // 2, 1)
    found = [(tile_rows, full)] if full else []
    if rest >= half:
        found.append((half, rest // half))
        rest %= half
    if rest:
        found.append((rest, 1))
    return tuple(found)


def _step(rows: int, cols: int, config: GemmConfig, mac_rate: float) -> float:
    """Cycles of one depth step over `rows` x `cols`."""
    tiles = cols / config.tile_cols
    return max(rows * cols / (mac_rate * config.efficiency), tiles * config.step_floor_cycles)
