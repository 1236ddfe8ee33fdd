"""ByteTransformer's BERT table: padded and unfused against packed and fused, ours beside the paper's.

    python benchmarks/byte_transformer.py

BERT base in float16 on an A100 (the 40 GB board: that paper's times match its bandwidth), batch 1 and 16,
sequences 64 to 1024 with a mean length of 0.6. Frameworks as mapping options: PyTorch JIT and TensorFlow
launch op by op from a stream with attention unfused; FasterTransformer and DeepSpeed fuse less than
ByteTransformer, which removes the padding and fuses attention.
Paper: arXiv:2210.03052; README table of bytedance/ByteTransformer (Apache-2.0).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from gpu_models import simulate_ms, table

from tetrasim.pricing import OpRow, price_rows
from tetrasim.run_phases import set_up

PRESET = "a100-pcie-40gb"
OURS = "ByteTransformer"
SETTINGS: dict[str, dict[str, str | float | bool]] = {
    "PyTorch": {"launch": "stream", "attention": "unfused", "fusion": False},
    "Tensorflow": {"launch": "stream", "attention": "unfused", "fusion": False},
    "FasterTransformer": {"launch": "stream", "attention": "flash2", "fusion": False},
    "FasterTransformer with remove padding": {
        "launch": "stream",
        "attention": "flash2",
        "fusion": False,
        "fill": 0.6,
    },
    "DeepSpeed": {"launch": "stream", "attention": "unfused"},
    OURS: {"launch": "stream", "attention": "flash2", "fill": 0.6},
}
LONGEST_FUSED = 384  # both libraries: scores of a head in shared memory up to here, batched products beyond
PAPER_GAIN = {"PyTorch": 87, "Tensorflow": 131, "DeepSpeed": 74, "FasterTransformer": 55}  # percent
Times = dict[str, dict[tuple[int, int], tuple[float, float]]]  # framework -> (batch, seq) -> measured, ours


def settings(framework: str, seq: int) -> dict[str, str | float | bool]:
    """Mapping options of a framework; fused attention ends where its kernel's shared memory does."""
    chosen = SETTINGS[framework]
    if chosen["attention"] == "flash2" and seq > LONGEST_FUSED:
        return {**chosen, "attention": "unfused"}
    return chosen


def times() -> Times:
    """Every cell of the README table that has a mapping here."""
    found: Times = defaultdict(dict)
    for row in table("bytetransformer_bert"):
        if row["impl"] in SETTINGS:
            batch, seq = int(row["batch"]), int(row["max_seq"])
            model = "bert-base" if seq <= 512 else "bert-base-1024"
            ours = simulate_ms(model, PRESET, batch, seq, precision="float16", **settings(row["impl"], seq))
            found[row["impl"]][batch, seq] = float(row["latency_ms"]), ours
    return found


def attention_gain() -> float:
    """Fused attention over unfused op by op (the paper: up to 6.13x over PyTorch), mean over 128 to 1024."""
    unfused = set_up(f"gpu/{PRESET}", {"attention": "unfused", "launch": "eager"})
    fused = set_up(f"gpu/{PRESET}", {"attention": "flash2", "launch": "stream"})
    gains = []
    for seq in range(128, 1025, 128):
        packed = round(seq * 0.6)
        dims = {
            "batch": 16,
            "q_len": seq,
            "heads": 12,
            "kv_heads": 12,
            "head_dim": 64,
            "kv_len": seq,
            "causal": 0,
        }
        rows = [
            OpRow("attention", "float16", tuple({**dims, "q_len": n, "kv_len": n}.items()))
            for n in (seq, packed)
        ]
        gains.append(price_rows(rows[:1], unfused).latency_us[0] / price_rows(rows[1:], fused).latency_us[0])
    return float(np.mean(gains))


def _cell(times_ms: tuple[float, float] | None) -> str:
    return " " * 18 if times_ms is None else f"{times_ms[0]:7.2f} / {times_ms[1]:8.2f}"


def main() -> None:
    found = times()
    print(f"{'framework':40s} cells  error   bias   over {OURS}: measured  ours  paper")
    for name, cells in found.items():
        error = np.array([ours / measured - 1 for measured, ours in cells.values()])
        common = [c for c in cells if c in found[OURS]]
        gains = [np.mean([cells[c][i] / found[OURS][c][i] - 1 for c in common]) for i in (0, 1)]
        paper = f"+{PAPER_GAIN[name]} %" if name in PAPER_GAIN else ""
        print(
            f"{name:40s} {len(cells):5d} {np.mean(np.abs(error)):6.1%} {np.mean(error):+6.1%}"
            f" {gains[0]:+22.0%} {gains[1]:+6.0%}  {paper}"
        )
    gain = attention_gain()
    print(
        f"fused and packed attention over PyTorch's, batch 16, mean over lengths: {gain:.2f}x (paper 6.13x)"
    )
    print("\nbatch x seq   " + "  ".join(f"{name[:18]:>18s}" for name in SETTINGS))
    for cell in sorted({c for cells in found.values() for c in cells}):
        row = "  ".join(_cell(found[name].get(cell)) for name in SETTINGS)
        print(f"{cell[0]:3d} x {cell[1]:5d}   {row}")


if __name__ == "__main__":
    main()
