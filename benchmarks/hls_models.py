"""Encoder classifiers with random shapes as HLS projects: how far 16 and 18 bits are from the model.

    python benchmarks/hls_models.py            # 24 shapes, 1,000 inputs each: about two minutes
    python benchmarks/hls_models.py --compile  # and the C simulation of the first four, bit for bit

Shapes: 15 to 64 tokens, width 6 to 64, 1 to 4 heads of 4 to 32 elements (whatever the width), 1 to 3 blocks,
with and without LayerNorm, ReLU and GELU. Weights are seeded random numbers; the reference is the graph
interpreter.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hw_targets" / "fpga"))

from hls_graphs import classifier

from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.check import compare
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.project import generate, reference_outputs, sample_inputs
from tetrasim.hw_targets.fpga.hls.relu import clip_relus
from tetrasim.hw_targets.fpga.hls.stream import streamed
from tetrasim.sim.ir.graph import Graph

MODELS, SAMPLES, CALIBRATION, COMPILED = 24, 1000, 200, 4


def shapes() -> list[Graph]:
    """The classifiers."""
    rng = np.random.default_rng(7)
    made = []
    for i in range(MODELS):
        tokens, width = int(rng.integers(15, 65)), int(rng.integers(6, 65))
        heads, head_dim = int(rng.integers(1, 5)), int(rng.choice([4, 5, 8, 11, 16, 32]))
        blocks, norm = int(rng.integers(1, 4)), bool(rng.integers(2))
        activation = ("Relu", "Gelu")[int(rng.integers(2))]
        print(
            f"{i:>2}: {tokens} tokens, width {width}, {heads} heads of {head_dim}, {blocks} blocks, ", end=""
        )
        print(f"{'LayerNorm' if norm else 'no norm'}, {activation}")
        sizes = (tokens, width, heads, head_dim, blocks)
        made.append(classifier(*sizes, norm=norm, activation=activation, seed=100 + i))
    return made


def main() -> None:
    """One line per model and width, then the worst of each."""
    worst = {16: (0.0, 1.0), 18: (0.0, 1.0)}
    options = HlsOptions(samples=SAMPLES, calibration=CALIBRATION)
    graphs = shapes()
    for i, graph in enumerate(graphs):
        plan = streamed(clip_relus(convert(graph)))
        feeds = sample_inputs(graph, plan, options)
        reference, source = reference_outputs(graph, feeds, None)
        by_layer = {x.name: feeds[v.name] for x, v in zip(plan.inputs, graph.inputs, strict=True)}
        head = {k: v[:CALIBRATION] for k, v in by_layer.items()}
        for bits in worst:
            n = compare(calibrate(plan, head, Widths(bits)), by_layer, reference, source, None)
            worst[bits] = max(worst[bits][0], n.relative), min(worst[bits][1], n.argmax)
            print(
                f"{i:>2}: {bits} bits: max error {n.relative:.3%} of range, argmax {n.argmax:.1%}", flush=True
            )
    for bits, (error, agree) in worst.items():
        print(f"worst of {len(graphs)} at {bits} bits: max error {error:.3%}, argmax {agree:.1%}")
    if "--compile" in sys.argv:
        for i, graph in enumerate(graphs[:COMPILED]):
            with tempfile.TemporaryDirectory() as folder:
                report = generate(graph, Path(folder) / "project", HlsOptions(samples=100))
            print(f"{i:>2}: C simulation bit-exact: {report.numerics.bit_exact}")


if __name__ == "__main__":
    main()
