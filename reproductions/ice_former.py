"""IceFormer (Mao, Ester, Li, ICLR 2024) on the cpu target: top-k attention against full attention.

The published times are of an unnamed processor, so the ratio full / IceFormer is compared, not seconds:
LongEval (Vicuna-7b, 32 heads of 128, causal prefill) over context, and the Long Range Arena encoders (their
sizes as in the paper's setup, from memory). Figures were digitised to about 2 % (MPL-2.0 repository
yuzhenmao/IceFormer, commit cf00ac4f156f).

Full attention is priced twice: as a graph runtime computes it (blocked products, a masked softmax in one
pass, buffers kept), and as an eager framework does (scores, scaled scores, masked scores and weights each a
new tensor of float32, whose pages fault), which is what the paper compares with. With `--measure` the same
two are timed here with torch on one thread: `scaled_dot_product_attention`, and the four operations.

    python reproductions/ice_former.py [--on cpu/xeon-8380] [--intrinsic-dim 16] [--measure]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.cpu.calibration.probe import best_seconds
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import KEPT_BYTES, PAGE_BYTES, cost_of
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


def measure(repeats: int = 5) -> None:
    """Eager operations, the same into kept buffers, and one fused call, on one thread of this machine."""
    import torch

    torch.set_num_threads(1)
    print("measured here with torch, one thread, best of", repeats, "in ms\n")
    print(f"{'batch heads tokens dim':24s} {'eager':>8s} {'kept':>8s} {'fused':>8s} {'us per new page':>16s}")
    for b, h, n, d in ((8, 2, 2000, 32), (4, 2, 1024, 32), (1, 8, 2000, 128)):
        q, k, v = (torch.randn(b, h, n, d) for _ in range(3))
        one, two = torch.empty(b, h, n, n), torch.empty(b, h, n, n)

        def eager(q: torch.Tensor = q, k: torch.Tensor = k, v: torch.Tensor = v) -> None:
            torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v

        def kept(
            q: torch.Tensor = q,
            k: torch.Tensor = k,
            v: torch.Tensor = v,
            one: torch.Tensor = one,
            two: torch.Tensor = two,
        ) -> None:
            torch.matmul(q, k.transpose(-1, -2), out=one)
            torch.softmax(one.div_(q.shape[-1] ** 0.5), -1, out=two)
            torch.matmul(two, v)

        def fused(q: torch.Tensor = q, k: torch.Tensor = k, v: torch.Tensor = v) -> None:
            torch.nn.functional.scaled_dot_product_attention(q, k, v)

        with torch.inference_mode():
            e, p, f = (best_seconds(run, repeats) * 1e3 for run in (eager, kept, fused))
        pages = 3 * one.numel() * 4 / PAGE_BYTES
        page_us = f"{(e - p) * 1e3 / pages:16.2f}" if one.numel() * 4 >= KEPT_BYTES else f"{'-':>16s}"
        print(f"{b:5d} {h:5d} {n:6d} {d:5d} {e:9.1f} {p:8.1f} {f:8.1f} {page_us}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", default="cpu/xeon-8380")
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--intrinsic-dim", type=int, default=16)
    parser.add_argument("--measure", action="store_true", help="time both kinds of full attention here")
    args = parser.parse_args()
    if args.measure:
        measure()
        return
    base = find_preset(args.on)[1].config
    assert isinstance(base, CpuConfig)
    full = with_overrides(base, {"attention": "full"})
    eager = with_overrides(base, {"attention": "full", "runtime": "eager"})
    ice = with_overrides(
        base,
        {
            "attention": "iceformer",
            "iceformer_top_k": args.top_k,
            "iceformer_intrinsic_dim": args.intrinsic_dim,
        },
    )
    print(f"{args.on}, k = {args.top_k}, intrinsic dimension {args.intrinsic_dim}; one layer, ours in ms\n")
    head = f"{'task':14s} {'tokens':>6s} {'runtime':>9s} {'eager':>9s} {'iceformer':>9s}"
    print(f"{head} {'/runtime':>9s} {'/eager':>9s} {'paper':>7s}")
    for p in (*LONGEVAL, *LRA):
        a, e, b = seconds(p, full), seconds(p, eager), seconds(p, ice)
        times = f"{a * 1e3:9.1f} {e * 1e3:9.1f} {b * 1e3:9.1f}"
        print(f"{p.task:14s} {p.tokens:6d} {times} {a / b:8.2f}x {e / b:8.2f}x {p.full_s / p.ice_s:6.2f}x")


if __name__ == "__main__":
    main()
