"""LeanAttention against FlashAttention-2 and FlashDecoding on long decodes: ours beside the paper's.

    python reproductions/lean_attention.py [--heads 12,16,…] [--csv FILE]

Grid: decode of one token, heads 12 to 128, batch 1 to 8, context 1k to 512k, head dim 64, float16, A100 and
H100. The paper (arXiv:2405.10480) publishes means and maxima; over which configurations they are taken is
not known, so means are printed per batch, too. Two readings: the whole kernel (start, combine, bandwidth),
and the schedule alone (key tiles of the busiest SM), which is what stream-K changes. The H100 column runs
FlashAttention-2 as the paper did, not version 3. Measured: vLLM's A100 decode table runs FlashAttention-2
without splitting for ungrouped heads (head dim 128). It gives the baseline that the paper compares with,
and the rate at which one SM reads. The last table holds the authors' own onnxruntime rows (pull request
22352, H100, batch 1). There the cache is not shared: every run copies it (read and written once, at the
DRAM rate here) beside a constant per run, taken from the first row.
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

from tetrasim.hw_targets.gpu.calibration import calibration
from tetrasim.hw_targets.gpu.device import HALF, Device, device_of
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels.records import Records, records, row
from tetrasim.hw_targets.gpu.measurements import preset_config

HEADS = (12, 16, 24, 32, 48, 56, 64, 96, 128)
BATCHES = (1, 2, 4, 8)
CONTEXTS = tuple(1024 * 2**i for i in range(10))
PRESETS = ("a100-sxm4-80gb", "h100-sxm")
HEAD_DIM = 64
UNSPLIT = Path(__file__).parents[1] / "tests" / "validation" / "data" / "gpu" / "flash2_unsplit_a100.csv"
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
        fits = records(att.AttentionFit, calibration("a100-sxm4-80gb").attention)
        for batch, h, context in itertools.product(BATCHES, heads, CONTEXTS):
            times = tuple(_time_us(device, fits, batch, h, HEAD_DIM, context, s) for s in range(3))
            yield Point(preset, batch, h, context, times, _busiest(device.sm_count, batch * h, context))


def _time_us(
    device: Device,
    fits: Records[att.AttentionFit],
    batch: int,
    heads: int,
    dim: int,
    context: int,
    schedule: int,
) -> float:
    shape = np.array([[batch, 1, heads, heads, dim, dim, context, 1]])
    rows = att.AttentionRows(shape, np.array([16]), np.array([HALF]))
    dram = np.array([4.0 * batch * heads * context * dim])
    return row(att.AttentionTime, att.time_attentions(rows, dram, (schedule,), device, fits), 0).time_us


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


@dataclass(frozen=True)
class Unsplit:
    """A measured decode of `units` (batch x heads) without splits, and ours, us."""

    units: int
    context: int
    measured_us: float
    flash2_us: float
    lean_us: float


def unsplit() -> Iterator[Unsplit]:
    """FlashAttention-2 without splitting on an A100, head dim 128."""
    device = device_of(preset_config("a100-sxm4-80gb"))
    fits = records(att.AttentionFit, calibration("a100-sxm4-80gb").attention)
    with UNSPLIT.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(line for line in stream if not line.startswith("#")):
            units, context = int(row["units"]), int(row["context"])
            flash2, lean = (_time_us(device, fits, 1, units, 128, context, s) for s in (att.FLASH2, att.LEAN))
            yield Unsplit(units, context, float(row["latency_us"]), flash2, lean)


@dataclass(frozen=True)
class OrtRow:
    """One row of the authors': flash and lean, measured and ours, us."""

    past: int
    heads: int
    dim: int
    measured_us: tuple[float, float]
    ours_us: tuple[float, float]


def ort_rows() -> list[OrtRow]:
    """The authors' rows; ours with the copies of the cache and the first row's constant."""
    config = preset_config("h100-sxm")
    device = replace(device_of(config), architecture="ampere")
    fits = records(att.AttentionFit, calibration("a100-sxm4-80gb").attention)
    copy_rate = config.dram.bandwidth_bytes_per_s * config.dram.sustained_fraction * 1e-6
    found = []
    for past, heads, dim, flash_us, lean_us in ORT_ROWS:
        copied = 2 * 4.0 * heads * past * dim / copy_rate  # keys and values in float16, read and written
        pair = [
            _time_us(device, fits, 1, heads, dim, past + 1, s) + copied
            for s in (att.FLASH_DECODING, att.LEAN)
        ]
        found.append(OrtRow(past, heads, dim, (float(flash_us), float(lean_us)), (pair[0], pair[1])))
    constant = found[0].measured_us[0] - found[0].ours_us[0]
    return [replace(r, ours_us=(r.ours_us[0] + constant, r.ours_us[1] + constant)) for r in found]


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
        lines.append(
            "  by batch: FlashAttention-2 / lean, FlashDecoding / lean; whole kernel (schedule alone)"
        )
        for batch in BATCHES:
            here = [p for p in mine if p.batch == batch]
            pair = [
                tuple(float(np.mean([p.ratio(s, whole) for p in here])) for whole in (True, False))
                for s in (att.FLASH2, att.FLASH_DECODING)
            ]
            text = "".join(f"  {whole:6.2f} ({alone:5.2f})" for whole, alone in pair)
            lines.append(f"    {batch:4d} {text}")
        lines.append("  by context, whole kernel: FlashAttention-2 / lean, FlashDecoding / lean")
        for context in CONTEXTS:
            here = [p for p in mine if p.context == context]
            pair = [np.mean([p.ratio(s, True) for p in here]) for s in (att.FLASH2, att.FLASH_DECODING)]
            lines.append(f"    {context // 1024:4d}k  {pair[0]:6.2f} {pair[1]:6.2f}")
        lines.append("")
    return "\n".join([*lines, *_unsplit_report(), *_ort_report()])


def _unsplit_report() -> list[str]:
    """The measured baseline."""
    rows = list(unsplit())
    error = np.mean([abs(r.flash2_us / r.measured_us - 1) for r in rows])
    lines = [
        f"FlashAttention-2 unsplit, measured (A100, head dim 128): ours {error:.1%} off, {len(rows)} rows",
        "  batch x heads, context: measured us, ours; GB/s; measured over our lean",
    ]
    for r in rows:
        rate = 512e-3 * r.units * r.context / r.measured_us  # bytes of a key and its value: 512
        lines.append(
            f"  {r.units:5d} {r.context:7d}  {r.measured_us:8.1f} {r.flash2_us:8.1f}  {rate:6.0f}"
            f"  {r.measured_us / r.lean_us:6.2f}"
        )
    return [*lines, ""]


def _ort_report() -> list[str]:
    lines = [
        "onnxruntime rows of the authors, H100: past x heads x head dim, flash and lean us, flash / lean"
    ]
    for r in ort_rows():
        measured, ours = (f"{a:5.1f} {b:5.1f}  {a / b:.2f}" for a, b in (r.measured_us, r.ours_us))
        lines.append(f"  {r.past:5d} x {r.heads:3d} x {r.dim:3d}   measured {measured}   ours {ours}")
    return lines


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
