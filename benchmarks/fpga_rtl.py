"""The FPGA simulator against Verilator and Yosys: random dataflow networks, reuse-factor and da4ml designs.

    python benchmarks/fpga_rtl.py [--networks 200] [--seed 0] [--stages 9] [--quick]

Prints, per group, how many designs agree cycle for cycle, and the LUT and FF errors against Yosys. --seed
gives other networks, other weights and other inputs, --stages larger networks. Nothing is fitted to these
designs except two constants of the reuse-factor layers (rtl/dense.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hw_targets" / "fpga"))

from random_networks import random_network
from small_graphs import Maker

from tetrasim.hw_targets.fpga.dataflow.kernel import simulate
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.rtl.dataflow import RtlRun, simulate_rtl
from tetrasim.hw_targets.fpga.rtl.dense import DenseDesign, dense_verilog, estimate_fabric, simulate_dense
from tetrasim.hw_targets.fpga.rtl.flow import write_rtl
from tetrasim.hw_targets.fpga.rtl.synth import synthesise
from tetrasim.sim.ir.graph import Graph, Role, TensorType, Value

BATCH = 50
DENSE = (
    (8, 8, 1, 8), (8, 8, 2, 8), (8, 8, 4, 12), (8, 8, 8, 8), (8, 8, 8, 16), (16, 16, 4, 16), (16, 16, 16, 8),
    (16, 16, 16, 16), (16, 8, 2, 8), (16, 8, 8, 12), (32, 8, 8, 8), (24, 12, 12, 10),
)  # fmt: skip
CHAINS = (
    ((8, 8), 6), ((16, 16), 6), ((16, 16, 16), 6), ((12, 8), 6), ((8, 16, 4), 6), ((16, 12), 8),
    ((10, 20, 5), 5), ((14, 14), 7), ((8, 8, 8, 4), 6), ((10, 12, 6), 8), ((5, 30), 6), ((18, 18), 4),
)  # fmt: skip


def networks(count: int, seed: int, stages: int, folder: Path) -> None:
    """Random actor graphs: start cycles, highest FIFO occupancy, deadlock or not."""
    exact = dead = 0
    began = time.perf_counter()
    for first in range(0, count, BATCH):
        seeds = range(seed + first, seed + min(first + BATCH, count))
        made, frames = [random_network(s, stages) for s in seeds], [1 + s % 3 for s in seeds]
        for network, n, rtl in zip(
            made, frames, simulate_rtl(made, frames, folder / f"n{first}"), strict=True
        ):
            run = simulate(network, n)
            rows = [run.start[a:b] for a, b in zip(run.offset, run.offset[1:], strict=False)]
            starts = tuple(tuple(int(t) for t in row if t >= 0) for row in rows)
            exact += rtl == RtlRun(starts, tuple(int(h) for h in run.highest), run.status == 0)
            dead += run.deadlocked
    print(
        f"{exact}/{count} random networks cycle-exact ({dead} deadlocks), {time.perf_counter() - began:.0f} s"
    )


def dense(
    folder: Path, designs: tuple[tuple[int, int, int, int], ...], seed: int
) -> list[tuple[float, float]]:
    """Reuse-factor designs: results, latency, interval, fabric."""
    rng = np.random.default_rng(seed)
    errors = []
    for n_in, n_out, reuse, bits in designs:
        half = 2 ** (bits - 1)
        d = DenseDesign(rng.integers(-half, half, (n_in, n_out)), bits, bits, reuse)
        x = rng.integers(-half, half, (12, n_in))
        place = folder / f"d{n_in}_{n_out}_{reuse}_{bits}"
        run = simulate_dense(d, x, place)
        lag = {b - a for a, b in zip(run.accepted, run.valid, strict=True)}
        same = (
            bool((run.results == d.run(x)).all())
            and lag == {d.latency}
            and set(np.diff(run.accepted)) == {reuse}
        )
        (place / "dense.v").write_text(dense_verilog(d))
        made, guess = synthesise(["dense.v"], "dense", place), estimate_fabric(d)
        errors.append((guess.lut / made.lut - 1, guess.ff / made.ff - 1))
        print(
            f"dense {n_in}x{n_out} reuse {reuse} {bits} bits: {_say(same)}, {d.latency} cycles, "
            f"LUT {made.lut} ({errors[-1][0]:+.1%}), FF {made.ff} ({errors[-1][1]:+.1%}), DSP {made.dsp}"
        )
    print("mean error: LUT {:.1%}, FF {:.1%}".format(*np.abs(errors).mean(0)))
    return errors


def _say(same: bool | None) -> str:
    return "exact" if same else "DIFFERS"


def chain(sizes: tuple[int, ...], seed: int) -> Graph:
    """Dense layers with ReLU between them."""
    m = Maker()
    m.rng = np.random.default_rng(seed)
    given = x = Value("x", TensorType((1, sizes[0])), Role.INPUT)
    for i, n in enumerate(sizes[1:]):
        x = m.linear(x, n, f"d{i}")
        if i + 2 < len(sizes):
            x = m.op("Relu", [x], x.type.shape, f"r{i}")
    return Graph("chain", tuple(m.nodes), (given,), (x,))


def da4ml(
    folder: Path, designs: tuple[tuple[tuple[int, ...], int], ...], seed: int
) -> list[tuple[float, float]]:
    """Distributed-arithmetic designs: RTL against the emulation, fabric."""
    errors = []
    for k, (sizes, bits) in enumerate(designs):
        options = HlsOptions(bits=bits, samples=64, calibration=64)
        r = write_rtl(chain(sizes, seed + k), folder / f"c{k}", "da4ml", options)
        assert r.counts is not None
        errors.append((r.estimated_lut / r.counts.lut - 1, r.estimated_ff / r.counts.ff - 1))
        print(
            f"da4ml {'-'.join(map(str, sizes))} {bits} bits: {_say(r.rtl_exact)}, {r.latency_cycles} cycles, "
            f"LUT {r.counts.lut} ({errors[-1][0]:+.1%}), FF {r.counts.ff} ({errors[-1][1]:+.1%})"
        )
    print("mean error: LUT {:.1%}, FF {:.1%}".format(*np.abs(errors).mean(0)))
    return errors


def main() -> None:
    """Everything, or a small part with --quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", type=int, default=9, help="actors of the largest random network")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks(20 if options.quick else options.networks, options.seed, options.stages, folder)
        errors = dense(folder, DENSE[:3] if options.quick else DENSE, options.seed)
        errors += da4ml(folder, CHAINS[:2] if options.quick else CHAINS, options.seed)
        print("all designs: LUT {:.1%}, FF {:.1%}".format(*np.abs(errors).mean(0)))


if __name__ == "__main__":
    main()
