"""PIM-GPT (arXiv 2310.09385) reproduced: eight models, 1,024 generated tokens, against a T4 and a Xeon 6154.

    python reproductions/pim_gpt.py [MODEL …] [--tokens 1024] [--workers 4] [--json FILE]

The paper's baselines are framework runs; the T4 and the Xeon are simulated as an eager framework runs them
(in float32, its default) and in this project's optimised mode (replayed CUDA graph in float16, onnxruntime);
the Xeon also with one thread. Nothing is fitted to the paper.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tetrasim import facade
from tetrasim.flow.phases import lowered_phases
from tetrasim.flow.setup import set_up
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.generate import run_family
from tetrasim.hw_targets.pim.machine import LEVELS, machine
from tetrasim.sim.ir.family import GraphFamily
from tetrasim.sim.result import Result

SIZES = ("small", "medium", "large", "xl")
MODELS = tuple(f"{family}-{size}" for size in SIZES for family in ("gpt2", "gpt3"))
BASELINES: dict[str, tuple[str, dict[str, str | int | float | bool | None]]] = {
    "T4 eager": ("gpu/t4", {"launch": "eager", "precision": "float32"}),
    "T4 graph": ("gpu/t4", {"launch": "graph"}),
    "Xeon 1 thread": ("cpu/xeon-6154", {"runtime": "eager", "threads": 1}),
    "Xeon eager": ("cpu/xeon-6154", {"runtime": "eager"}),
    "Xeon tuned": ("cpu/xeon-6154", {"runtime": "onnxruntime"}),
}
PROMPT = 1  # 1,024 positions in all: what GPT-2 was made for
# Printed in the paper's two versions: speed-ups in both, energy gains differ.
PAPER = {
    "speed-up over T4": "41-137",
    "speed-up over Xeon": "631-1074",
    "energy gain over T4, version 1": "339-1085",
    "energy gain over T4, version 2": "123-383",
    "energy gain over Xeon, version 1": "890-1632",
    "energy gain over Xeon, version 2": "320-602",
    "row hits": "about 98 %",
    "data movement reduction": "110-259",
    "time outside VMM, gpt3-xl": "1.16 %",
    "slowdown with the ASIC at 100 MHz": "at most 20 %",
    "more channels": "almost linear",
}


@dataclass(frozen=True)
class Row:
    """One model; times in s, energies in J."""

    model: str
    pim_s: float
    pim_j: float
    baseline_s: dict[str, float]
    baseline_j: dict[str, float]
    row_hits: float
    movement_reduction: float
    movement_reduction_blocks: float
    outside_vmm: float
    slow_asic: float
    double_channels: float


def totals(result: Result) -> tuple[float, float]:
    """Seconds and joules of a whole generation."""
    return result.latency.value * 1e-9, result.energy.value * 1e-12


def clocks(family: GraphFamily, contexts: Sequence[int], config: PimConfig, **changes: int) -> int:
    """Channel clocks of a generation with some settings changed."""
    changed = with_overrides(config, {k.replace("__", "."): v for k, v in changes.items()})
    return int(run_family(family, contexts, changed)[1].start[-1])


def reproduce(model: str, tokens: int) -> Row:
    """Everything the paper states, for one model."""
    run = facade.simulate(model, "pim/pim-gpt", prompt=PROMPT, generate=tokens, numerics=False)
    pim = totals(run.results[0])
    seconds, joules = {}, {}
    for name, (preset, settings) in BASELINES.items():
        run = facade.simulate(
            model, preset, prompt=PROMPT, generate=tokens, settings=settings, numerics=False
        )
        seconds[name], joules[name] = totals(run.results[0])
    loaded, workload = facade.load_for(model, prompt=PROMPT, generate=tokens)
    setup = set_up("pim/pim-gpt", {})
    config = setup.config
    assert isinstance(config, PimConfig)
    _, family, contexts = lowered_phases(loaded, setup, workload)[1]
    _, out = run_family(family, contexts, config)
    names = machine(config).channel.names
    counts = dict(zip(names, out.counts.sum(axis=0).tolist(), strict=True))
    base = int(out.start[-1])
    moved, payload, outside = shares(family, contexts[len(contexts) // 2], config)
    return Row(
        model,
        *pim,
        seconds,
        joules,
        1 - counts["ACT16"] / counts["MAC16"],
        moved,
        payload,
        outside,
        clocks(family, contexts, config, host__clock_hz=100_000_000) / base - 1,
        base / clocks(family, contexts, config, channels=2 * config.channels),
    )


def shares(family: GraphFamily, context: int, config: PimConfig) -> tuple[float, float, float]:
    """At one context: matrix bytes over bytes on the pins (all of the model), the same for the transformer
    blocks alone by payload (vectors, results, K and V elements; the paper counts blocks only: 1.15 G
    parameters for GPT3-XL), and the share of time outside matrix-vector products."""
    plan, out = run_family(family, [context], config)
    graph = family.at(context)
    kinds = [plan.steps[s].kind for s in plan.task_steps]
    pins = out.task_bytes[:, LEVELS.index("channel I/O")]
    vocabulary = graph.outputs[0].type.shape[-1]
    head = {i for i, n in enumerate(graph.nodes) if n.outputs[0].type.shape[-1:] == (vocabulary,)}
    payload = macs = 0
    for task, (kind, node) in enumerate(zip(kinds, plan.schedule.node.tolist(), strict=True)):
        if kind == "gemv" and node not in head:
            payload += int(pins[task])
            macs += plan.steps[plan.task_steps[task]].macs
        elif kind == "cache write":
            new = graph.nodes[node].inputs[1]
            payload += new.type.nbytes if new is not None else 0
    busy = out.task_part.sum(axis=1)
    products = busy[np.array(kinds) == "gemv"].sum()
    return 2 * int(out.macs.sum()) / int(pins.sum()), 2 * macs / payload, float(1 - products / busy.sum())


def span(values: Sequence[float], digits: int = 0) -> str:
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}"


def show(rows: Sequence[Row]) -> None:
    """The table, and the paper's ranges beside ours."""
    names = list(BASELINES)
    heads = "  ".join(f"{'x ' + n:>15s}" for n in names)
    print(f"{'model':12s} {'PIM':>9s} {'J':>6s}  {heads}   energy gains")
    for row in rows:
        speed = "  ".join(f"{row.baseline_s[n] / row.pim_s:15.1f}" for n in names)
        energy = " / ".join(f"{row.baseline_j[n] / row.pim_j:.0f}" for n in names)
        print(f"{row.model:12s} {row.pim_s:8.3f}s {row.pim_j:6.2f}  {speed}   {energy}")
    print(f"\n{'quantity':40s} {'paper':>14s}   ours")

    def line(name: str, ours: str) -> None:
        print(f"{name:40s} {PAPER[name]:>14s}   {ours}")

    for short, device in (("T4", "T4"), ("Xeon", "Xeon")):
        fast = f"{device} graph" if device == "T4" else f"{device} tuned"
        eager = [r.baseline_s[f"{device} eager"] / r.pim_s for r in rows]
        tuned = [r.baseline_s[fast] / r.pim_s for r in rows]
        alone = ""
        if device == "Xeon":
            alone = f"{span([r.baseline_s['Xeon 1 thread'] / r.pim_s for r in rows])} one thread, "
        line(f"speed-up over {short}", f"{alone}{span(eager)} eager, {span(tuned)} tuned")
        gain = [r.baseline_j[f"{device} eager"] / r.pim_j for r in rows]
        for version in (1, 2):
            line(f"energy gain over {short}, version {version}", f"{span(gain)} eager")
    line("row hits", f"{span([100 * r.row_hits for r in rows], 1)} %")
    blocks = span([r.movement_reduction_blocks for r in rows])
    line("data movement reduction", f"{blocks} blocks, {span([r.movement_reduction for r in rows])} all pins")
    xl = [r for r in rows if r.model == "gpt3-xl"]
    line("time outside VMM, gpt3-xl", f"{100 * xl[0].outside_vmm:.2f} %" if xl else "-")
    line("slowdown with the ASIC at 100 MHz", f"{span([100 * r.slow_asic for r in rows])} %")
    line("more channels", f"x{span([r.double_channels for r in rows], 2)} at twice the channels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    # the largest models first: they take longest; a process each, so that none keeps another's graphs
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, max_tasks_per_child=1) as pool:
        running = [pool.submit(reproduce, model, options.tokens) for model in reversed(options.models)]
        rows = []
        for model, done in zip(options.models, reversed(running), strict=True):
            print(f"simulating {model}", file=sys.stderr, flush=True)
            rows.append(done.result())
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
