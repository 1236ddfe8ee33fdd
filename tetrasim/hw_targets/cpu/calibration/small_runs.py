"""What onnxruntime costs around the arithmetic: per run, per fed or fetched value, per node.

A kernel's time is that of a run with the op minus that of a run without: the slope over a chain of the same
op gives the cost per node, the intercept the cost per run, and a model of many inputs and outputs the cost
per value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tetrasim.hw_targets.cpu.calibration.onnx_bench import chain_model, session, wide_model
from tetrasim.hw_targets.cpu.calibration.rounds import Probe
from tetrasim.hw_targets.cpu.calibration.samples import Kernel

LONG, SHORT, ELEMENTS = 120, 20, 256
WIDE = 48


@dataclass(frozen=True, slots=True)
class Overheads:
    """Seconds of onnxruntime around the arithmetic."""

    node: float
    run: float
    value: float


def overhead_probes() -> list[Probe[Kernel]]:
    """Two chains and a wide model."""
    x = np.ones(ELEMENTS, np.float32)
    chains = {n: session(chain_model(n, ELEMENTS).SerializeToString(), 1) for n in (LONG, SHORT)}
    wide = session(wide_model(WIDE).SerializeToString(), 1)
    feeds = {f"x{i}": np.ones(4, np.float32) for i in range(WIDE)}
    return [
        Probe(Kernel("chain", (LONG,)), lambda: chains[LONG].run(None, {"x0": x})),
        Probe(Kernel("chain", (SHORT,)), lambda: chains[SHORT].run(None, {"x0": x})),
        Probe(Kernel("wide", (WIDE,)), lambda: wide.run(None, feeds)),
    ]


def overheads_of(best: Mapping[Kernel, float]) -> Overheads:
    """Slopes and intercepts of the best times."""
    long, short = best[Kernel("chain", (LONG,))], best[Kernel("chain", (SHORT,))]
    node = max((long - short) / (LONG - SHORT), 1e-8)
    run = max(short - SHORT * node, best[Kernel("empty")] - node)
    value = max((best[Kernel("wide", (WIDE,))] - run - WIDE * node) / (2 * WIDE), 0.0)
    return Overheads(node, max(run - 2 * value, 0.0), value)
