"""IceFormer (Mao, Ester, Li, ICLR 2024) on the cpu target: top-k attention against full attention.

The published times are of an unnamed processor, so the ratio full / IceFormer is compared, not seconds:
LongEval (Vicuna-7b, 32 heads of 128, causal prefill) over context, and the Long Range Arena encoders (their
sizes as in the paper's setup, from memory). Figures were digitised to about 2 % (MPL-2.0 repository
yuzhenmao/IceFormer, commit cf00ac4f156f).

    python benchmarks/ice_former.py [--on cpu/xeon-8380] [--intrinsic-dim 16]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import cost_of
from tetrasim.hw_targets.cpu.machine import machine_of
from tetrasim.hw_targets.cpu.placement import placed_alone
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ops.work import AttentionShape, Operand, Work, WorkKind


@dataclass(frozen=True)
class Point:
    """One published pair of seconds."""

    task: str
    batch: int
    heads: int
    head_dim: int
    tokens: int
    causal: bool
    full_s: float
    ice_s: float


LONGEVAL = tuple(
    Point(f"LongEval {n // 1000}k", 1, 32, 128, n, True, full, ice)
    for n, full, ice in (
        (3000, 1.0, 0.6), (5000, 1.9, 1.0), (6000, 3.2, 1.4), (7000, 4.0, 1.7), (9000, 6.9, 3.0),
        (10000, 7.2, 3.0), (12000, 10.9, 4.7), (13000, 12.7, 5.3), (14000, 15.6, 6.7), (16000, 19.2, 8.3),
    )
)  # fmt: skip
LRA = (
    Point("ListOps", 32, 2, 32, 2000, False, 2.911, 0.367),
    Point("Text", 32, 2, 32, 4000, False, 0.688, 0.091),
    Point("Retrieval", 32, 2, 32, 4000, False, 8.323, 0.825),
    Point("Image", 32, 2, 32, 1024, False, 4.918, 0.489),
    Point("Pathfinder", 32, 2, 32, 1024, False, 0.958, 0.304),
)


def attention_work(p: Point) -> Work:
    """The attention of one layer."""
    n = p.batch * p.heads * p.tokens * p.head_dim
    x = Operand(n, 32)
    shape = AttentionShape(p.batch, p.tokens, p.heads, p.heads, p.head_dim, p.head_dim, p.tokens, p.causal)
    return Work("Attention", WorkKind.ATTENTION, (x, Operand(n, 32), Operand(n, 32)), (x,), attention=shape)


def seconds(p: Point, config: CpuConfig) -> float:
    """Time of one layer's attention."""
    machine, work = machine_of(config), attention_work(p)
    return cost_of(work, machine, placed_alone(work, machine)).total_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", default="cpu/xeon-8380")
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--intrinsic-dim", type=int, default=16)
    args = parser.parse_args()
    base = find_preset(args.on)[1].config
    assert isinstance(base, CpuConfig)
    full = with_overrides(base, {"attention": "full"})
    ice = with_overrides(
        base,
        {
            "attention": "iceformer",
            "iceformer_top_k": args.top_k,
            "iceformer_intrinsic_dim": args.intrinsic_dim,
        },
    )
    print(f"{args.on}, k = {args.top_k}, intrinsic dimension {args.intrinsic_dim}; one layer, ours in ms\n")
    print(f"{'task':14s} {'tokens':>6s} {'full':>10s} {'iceformer':>10s} {'ours':>7s} {'paper':>7s}")
    for p in (*LONGEVAL, *LRA):
        a, b = seconds(p, full), seconds(p, ice)
        ours, paper = a / b, p.full_s / p.ice_s
        print(f"{p.task:14s} {p.tokens:6d} {a * 1e3:10.1f} {b * 1e3:10.1f} {ours:6.2f}x {paper:6.2f}x")


if __name__ == "__main__":
    main()
