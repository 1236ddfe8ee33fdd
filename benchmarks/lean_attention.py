"""LeanAttention against FlashAttention-2 and FlashDecoding on long decodes: ours beside the paper's.

    python benchmarks/lean_attention.py [--heads 12,16,…] [--csv FILE]

Grid of the paper (arXiv:2405.10480): decode of one token, heads 12 to 128, batch 1 to 8, context 1k to
512k, head dim 64, float16, A100 and H100. Two readings: the whole kernel (start, combine, bandwidth), and
the schedule alone (key tiles of the busiest SM), which is what stream-K changes. The H100 column runs
FlashAttention-2 as the paper did, not version 3.
The last table holds the authors' own onnxruntime rows (pull request 22352, H100, batch 1): there, launches
and copies of an unshared cache dominate, so that lean and flash are level.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tetrasim.hw_targets.gpu import attention as att
from tetrasim.hw_targets.gpu.calibration import calibration
from tetrasim.hw_targets.gpu.device import HALF, Device, device_of
from tetrasim.hw_targets.gpu.measurements import preset_config

HEADS = (12, 16, 24, 32, 48, 56, 64, 96, 128)
BATCHES = (1, 2, 4, 8)
CONTEXTS = tuple(1024 * 2**i for i in range(10))
PRESETS = ("a100-sxm4-80gb", "h100-sxm")
HEAD_DIM = 64
PAPER = (
    ("FlashAttention-2 / lean, mean", "2.6 (v1)"),
    ("FlashAttention-2 / lean, largest", "8.33 (512k)"),
    ("FlashDecoding / lean, mean", "1.73 (v2)"),
    ("FlashDecoding / lean, largest", "2.18 (256k)"),
)
ORT_ROWS = (  # past, heads, head dim, flash us, lean us
    (512, 16, 64, 59, 60), (512, 32, 128, 62, 62), (1024, 16, 64, 61, 63), (1024, 32, 128, 75, 72),
    (2048, 16, 64, 69, 64), (2048, 32, 128, 98, 92),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One decode: time in us and key tiles of the busiest SM, per schedule (flash2, flash-decoding, lean)."""

    preset: str
    batch: int
    heads: int
    context: int
    time_us: tuple[float, float, float]
    tiles: tuple[float, float, float]

    def ratio(self, schedule: int, whole: bool) -> float:
        values = self.time_us if whole else self.tiles
        return values[schedule] / values[att.LEAN]


def points(heads: tuple[int, ...] = HEADS) -> Iterator[Point]:
    """Every configuration of the grid."""
    for preset in PRESETS:
        device = replace(device_of(preset_config(preset)), architecture="ampere")  # flash-attention 2's rules
        fits = np.array([k.row() for k in calibration("a100-sxm4-80gb").attention])
        for batch, h, context in itertools.product(BATCHES, heads, CONTEXTS):
            times = tuple(_time_us(device, fits, batch, h, HEAD_DIM, context, s) for s in range(3))
            yield Point(preset, batch, h, context, times, _busiest(device.sm_count, batch * h, context))


def _time_us(
    device: Device, fits: np.ndarray, batch: int, heads: int, dim: int, context: int, schedule: int
) -> float:
    shape = np.array([[batch, 1, heads, heads, dim, dim, context, 1, 0]])
    rows = att.AttentionRows(shape, np.array([16]), np.array([HALF]))
    dram = np.array([4.0 * batch * heads * context * dim])
    return float(att.time_attentions(rows, dram, (schedule,), device, fits)[0, 0])


def _busiest(sm_count: int, units: int, context: int) -> tuple[float, float, float]:
    """Key tiles that the busiest SM walks: all that distinguishes the schedules when tiles cost the same.

    flash-attention 2 runs up to two blocks per SM, so a block counts half an SM's time when two share it.
    """
    tiles = math.ceil(context / att.TILE_K)
    slots = 2 * sm_count
    splits = att.split_count(units, slots, tiles, 128, 0)
    grid = att.lean_grid(units * tiles, slots)
    per_block = math.ceil(units * tiles / grid)
    return (
        float(math.ceil(units / slots) * tiles),
        float(math.ceil(units * splits / slots) * math.ceil(tiles / splits)),
        float(math.ceil(grid / slots) * per_block),
    )


def ort_rows() -> Iterator[tuple[int, int, int, float, float, float, float]]:
    """past, heads, head dim, measured flash / lean, ours whole-kernel flash-decoding / lean, measured us."""
    device = replace(device_of(preset_config("h100-sxm")), architecture="ampere")
    fits = np.array([k.row() for k in calibration("a100-sxm4-80gb").attention])
    for past, heads, dim, flash_us, lean_us in ORT_ROWS:
        ours = [_time_us(device, fits, 1, heads, dim, past + 1, s) for s in (att.FLASH_DECODING, att.LEAN)]
        yield past, heads, dim, flash_us / lean_us, ours[0] / ours[1], float(flash_us), float(lean_us)


def report(found: list[Point]) -> str:
    """The comparison as text."""
    lines = ["LeanAttention: speed-up of stream-K over the grid (heads x batch x context)", ""]
    for preset in PRESETS:
        mine = [p for p in found if p.preset == preset]
        lines.append(
            f"gpu/{preset}: {len(mine)} configurations{'':8s}   whole kernel   schedule alone   paper"
        )
        stats = []
        for schedule in (att.FLASH2, att.FLASH_DECODING):
            whole, alone = ([p.ratio(schedule, w) for p in mine] for w in (True, False))
            stats += [(np.mean(whole), np.mean(alone)), (max(whole), max(alone))]
        for (name, paper), (whole, alone) in zip(PAPER, stats, strict=True):
            lines.append(f"  {name:36s} {whole:14.2f} {alone:16.2f}   {paper}")
        lines.append("  by context, whole kernel: FlashAttention-2 / lean, FlashDecoding / lean")
        for context in CONTEXTS:
            here = [p for p in mine if p.context == context]
            pair = [np.mean([p.ratio(s, True) for p in here]) for s in (att.FLASH2, att.FLASH_DECODING)]
            lines.append(f"    {context // 1024:4d}k  {pair[0]:6.2f} {pair[1]:6.2f}")
        lines.append("")
    lines.append(
        "onnxruntime rows of the authors, H100: past x heads x head dim, flash / lean measured and ours"
    )
    for past, heads, dim, measured, ours, flash_us, lean_us in ort_rows():
        times = f"({flash_us:.0f} / {lean_us:.0f} us)"
        lines.append(f"  {past:5d} x {heads:3d} x {dim:3d}   {measured:.2f} {times}   {ours:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", default=",".join(map(str, HEADS)), help="head counts, comma separated")
    parser.add_argument("--csv", type=Path, help="write every configuration here")
    args = parser.parse_args()
    found = list(points(tuple(int(h) for h in args.heads.split(","))))
    print(report(found))
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["preset", "batch", "heads", "context", *(f"{n}_us" for n in att.SCHEDULE_NAMES)])
            writer.writerows([p.preset, p.batch, p.heads, p.context, *p.time_us] for p in found)


if __name__ == "__main__":
    main()
