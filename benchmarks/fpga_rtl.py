"""The FPGA simulator against Verilator and Yosys: random dataflow networks, reuse-factor and da4ml designs.

    python benchmarks/fpga_rtl.py [--networks 200] [--quick]

Prints, per group, how many designs agree cycle for cycle, and the LUT and FF errors against Yosys. The
constants of the
da4ml estimate are fitted on the designs marked `fit`; the error is printed for those left out.
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
from tetrasim.hw_targets.fpga.rtl.flow import FF_PER_REGISTER_BIT, LUT_PER_COST, write_rtl
from tetrasim.hw_targets.fpga.rtl.synth import synthesise
from tetrasim.sim.ir.graph import Graph, Role, TensorType, Value

BATCH = 50
DENSE = (
    (8, 8, 1, 8), (8, 8, 2, 8), (8, 8, 4, 12), (8, 8, 8, 8), (8, 8, 8, 16), (16, 16, 4, 16), (16, 16, 16, 8),
    (16, 16, 16, 16), (16, 8, 2, 8), (16, 8, 8, 12), (32, 8, 8, 8), (24, 12, 12, 10),
)  # fmt: skip
CHAINS = (
    ((8, 8), 6, "fit"), ((16, 16), 6, "fit"), ((16, 16, 16), 6, "fit"),
    ((12, 8), 6, "left out"), ((8, 16, 4), 6, "left out"), ((16, 12), 8, "left out"),
    ((10, 20, 5), 5, "left out"),
)  # fmt: skip


def networks(count: int, folder: Path) -> None:
    """Random actor graphs: start cycles, highest FIFO occupancy, deadlock or not."""
    exact = dead = 0
    began = time.perf_counter()
    for first in range(0, count, BATCH):
        seeds = range(first, min(first + BATCH, count))
        made, frames = [random_network(s) for s in seeds], [1 + s % 3 for s in seeds]
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


def dense(folder: Path, designs: tuple[tuple[int, int, int, int], ...]) -> list[tuple[float, float]]:
    """Reuse-factor designs: results, latency, interval, fabric."""
    rng = np.random.default_rng(0)
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


def da4ml(folder: Path, designs: tuple[tuple[tuple[int, ...], int, str], ...]) -> list[tuple[float, float]]:
    """Distributed-arithmetic designs: RTL against the emulation, fabric."""
    left: list[tuple[float, float]] = []
    fits: list[tuple[float, float]] = []
    for seed, (sizes, bits, role) in enumerate(designs):
        options = HlsOptions(bits=bits, samples=64, calibration=64)
        r = write_rtl(chain(sizes, seed), folder / f"c{seed}", "da4ml", options)
        assert r.counts is not None
        ratio = (r.estimated_lut / r.counts.lut - 1, r.estimated_ff / r.counts.ff - 1)
        (left if role == "left out" else fits).append(ratio)
        print(
            f"da4ml {'-'.join(map(str, sizes))} {bits} bits ({role}): {_say(r.rtl_exact)}, "
            f"{r.latency_cycles} cycles, "
            f"LUT {r.counts.lut} ({ratio[0]:+.1%}), FF {r.counts.ff} ({ratio[1]:+.1%})"
        )
    if left:
        print("mean error on designs left out: LUT {:.1%}, FF {:.1%}".format(*np.abs(left).mean(0)))
    if fits:
        factors = 1 / (1 + np.array(fits))
        lut, ff = LUT_PER_COST * factors[:, 0].mean(), FF_PER_REGISTER_BIT * factors[:, 1].mean()
        print(f"refitted on `fit`: LUT_PER_COST = {lut:.3f}, FF_PER_REGISTER_BIT = {ff:.3f}")
    return left


def main() -> None:
    """Everything, or a small part with --quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks(20 if options.quick else options.networks, folder)
        errors = dense(folder, DENSE[:3] if options.quick else DENSE)
        errors += da4ml(folder, CHAINS[:2] if options.quick else CHAINS)
        print("all designs but the fitted ones: LUT {:.1%}, FF {:.1%}".format(*np.abs(errors).mean(0)))


if __name__ == "__main__":
    main()
