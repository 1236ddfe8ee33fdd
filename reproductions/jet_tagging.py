"""The three models of the published hls4ml transformer firmware on a VU13P at 5 ns, reuse 1, 2 and 4.

    python reproductions/jet_tagging.py

What is published (arXiv 2402.01047, 2409.05207, 2510.24784; abstracts, the tables could not be retrieved):
latency
below 2 us on UltraScale+ for the jet tagger and for all three models on VU13P; O(100) ns with distributed
arithmetic
in the follow-up. Shapes and formats: github:uw-acme/transformer-hls4ml. Weights are random, so the numerics
say how
exact the arithmetic is, not how good the tagger.
"""

from __future__ import annotations

import time

from tetrasim.cli.hls import load_graph
from tetrasim.hw_targets.fpga.dataflow.kernel import simulate
from tetrasim.hw_targets.fpga.dataflow.sizing import smallest
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.check import compare
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.estimate import estimate
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.pipeline import simulate_pipeline
from tetrasim.hw_targets.fpga.hls.project import reference_outputs, sample_inputs
from tetrasim.hw_targets.fpga.hls.relu import clip_relus
from tetrasim.hw_targets.fpga.hls.stream import streamed
from tetrasim.hw_targets.fpga.lower import simulate_design
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.passes.precision import with_precision

PUBLISHED = {
    "jet-btag": "under 2 us (2402.01047); O(100) ns with distributed arithmetic (2510.24784)",
    "car-engine": "under 2 us (2409.05207)",
    "ligo": "under 2 us (2409.05207)",
}
SAMPLES = 200


def main() -> None:
    """One block per model."""
    for name, published in PUBLISHED.items():
        graph, onnx_path = load_graph(name)
        print(f"{name}: published {published}")
        for reuse in (1, 2, 4):
            found = estimate(graph, HlsOptions(reuse=reuse), 18)
            began = time.process_time()
            estimate(graph, HlsOptions(reuse=reuse, clock_ns=5.0 + reuse * 1e-6), 18)
            seconds = time.process_time() - began
            assert found is not None
            us = found.clock_ns / 1000
            print(
                f"  reuse {reuse}: rows through FIFOs {found.latency_cycles_streamed * us:.3f} us, every "
                f"{found.interval_cycles_streamed} cycles; arrays between loops "
                f"{found.latency_cycles_staged * us:.3f} us; LUT {found.lut:,} FF {found.ff:,} "
                f"DSP {found.dsp:,} "
                f"BRAM18 {found.bram18}; {'fits' if found.fits else 'does not fit'} "
                f"({found.limiting} {found.share:.0%}); estimated in {seconds * 1e3:.0f} ms of CPU time"
            )
        plan = convert(graph)
        options = HlsOptions(samples=SAMPLES)
        feeds = sample_inputs(graph, plan, options)
        reference, source = reference_outputs(graph, feeds, onnx_path)
        by_layer = {x.name: feeds[v.name] for x, v in zip(plan.inputs, graph.inputs, strict=True)}
        rows = calibrate(streamed(clip_relus(plan)), by_layer, Widths(16))
        for reuse in (1, 2, 4):
            made = simulate_pipeline(rows, HlsOptions(reuse=reuse))
            print(
                f"  emitted, 16 bits, reuse {reuse}: {made.latency_cycles * 5e-3:.3f} us, "
                f"every {made.interval_cycles} cycles; {len(made.fifos)} streams, {made.fifo_bits:,} bits"
            )
        for bits in (16, 18):
            n = compare(calibrate(plan, by_layer, Widths(bits)), by_layer, reference, source, None)
            print(
                f"  {bits} bits against {source}: max error {n.relative:.2%} of range, argmax {n.argmax:.1%}"
            )
    speed()


def speed() -> None:
    """Simulated cycles per second, and the least FIFO memory that keeps full speed, for the jet tagger."""
    config = find_preset("fpga/vu13p")[1].config
    graph = with_precision(load_graph("jet-btag")[0], config.numbers.precision)  # type: ignore[attr-defined]
    design = simulate_design(graph, 2, config).design  # type: ignore[arg-type]
    frames = 1_000  # about half a million firings
    simulate(design.network, 2)
    for skip in (False, True):
        rate = 0.0
        for _ in range(5):
            began = time.process_time()
            run = simulate(design.network, frames, skip_idle=skip)
            rate = max(rate, run.cycles / (time.process_time() - began))
        actors = len(design.network.actors)
        print(f"simulator, {actors} actors: {rate / 1e6:.2f} M cycles/s of CPU (skip_idle={skip})")
    began = time.perf_counter()
    least = smallest(design.network, 4, slack_cycles=0)
    bits = [sum(f.bits * f.depth for f in n.fifos) for n in (design.network, least.network)]
    print(
        f"FIFO bits at full speed: {bits[0]:,}; searched: {bits[1]:,} "
        f"({least.simulations} simulations, {time.perf_counter() - began:.1f} s)"
    )


if __name__ == "__main__":
    main()
