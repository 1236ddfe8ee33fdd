"""Evaluations per second on one core of gpt2-small step graphs, as a design-space search does them.

    python benchmarks/dse_speed.py --seconds 10

Two modes: only target parameters change (the graph is imported once), and the model's shape changes (layers
and feed-forward width; every shape is exported once and cached on disk). One evaluation prices one step graph
on all four targets with parameters never seen before, without the store of finished evaluations. Rates are
per second of processor time, as other processes may share the core; the wall-clock rate is printed beside.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import time
from collections.abc import Callable, Iterator

from tetrasim.dse.candidate import Candidate, configured, resolve_point
from tetrasim.dse.evaluate import evaluate
from tetrasim.dse.graphs import exported_folder, load
from tetrasim.dse.space import Point, StudySpec
from tetrasim.dse.spec_file import make_spec

TARGETS = ("pim/pim-gpt", "gpu/t4", "cpu/xeon-6154", "fpga/u280")
SPEC = make_spec(
    {
        "name": "speed",
        "model": {"preset": "gpt2-small", "dims": {"layers": [10, 12], "ffn_ratio": [3, 4]}},
        "workload": {"prompt": 128, "generate": 2},
        "targets": {
            "pim/pim-gpt": {"channels": [4, 8, 16], "host.clock_hz": {"low": 5 * 10**8, "high": 2 * 10**9}},
            "gpu/t4": {"dram.bandwidth_bytes_per_s": {"low": 2.0e11, "high": 9.0e11}},
            "cpu/xeon-6154": {"dram.bandwidth_bytes_per_s": {"low": 5.0e10, "high": 4.0e11}},
            "fpga/u280": {"overlay.clock_hz": {"low": 10**8, "high": 4 * 10**8}},
        },
        "objectives": ["token_us", "energy_mj"],
    }
)


def points(spec: StudySpec, rng: random.Random, shapes: Iterator[tuple[int, int]]) -> Iterator[list[Point]]:
    """Endless evaluations: per target a point with new parameters, all of the same shape."""
    while True:
        layers, ratio = next(shapes)
        batch: list[Point] = []
        for target in TARGETS:
            point: Point = {"target": target, "model.layers": layers, "model.ffn_ratio": ratio}
            for p in spec.parameters:
                if p.target == target:
                    point[p.name] = (
                        rng.choice(p.domain)
                        if isinstance(p.domain, tuple)
                        else rng.randint(int(p.domain.low), int(p.domain.high))
                        if p.domain.whole
                        else rng.uniform(p.domain.low, p.domain.high)
                    )
            batch.append(point)
        yield batch


def step_only(candidate: Candidate) -> Callable[[], None]:
    """Lower and simulate the step graph alone."""
    from tetrasim.flow.phases import lowered_phases, run_totals

    model = load(candidate)

    def run() -> None:
        phases = lowered_phases(model, candidate.setup, candidate.workload)
        _, family, contexts = phases[-1]
        run_totals(candidate.setup, family, contexts)

    return run


def measure(
    shapes: Iterator[tuple[int, int]], seconds: float, seed: int
) -> tuple[int, float, float, dict[str, float]]:
    """(evaluations, wall-clock seconds, processor seconds, processor seconds by target)."""
    rng = random.Random(seed)
    spent = dict.fromkeys(TARGETS, 0.0)
    started, busy = time.perf_counter(), time.process_time()
    for count, batch in enumerate(points(SPEC, rng, shapes), start=1):
        for point in batch:
            before = time.process_time()
            step_only(resolve_point(SPEC, point))()
            spent[str(point["target"])] += time.process_time() - before
        if time.perf_counter() - started > seconds:
            return count, time.perf_counter() - started, time.process_time() - busy, spent
    raise AssertionError("unreachable")


def main() -> None:
    """Print both modes and one line with the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=10.0, help="per mode")
    seconds = parser.parse_args().seconds
    gc.set_threshold(100_000, 20, 50)  # as `tetrasim` and its workers set it
    every = [(layers, ratio) for layers in (10, 12) for ratio in (3, 4)]
    started = time.perf_counter()
    for layers, ratio in every:
        exported_folder(
            resolve_point(SPEC, {"target": "gpu/t4", "model.layers": layers, "model.ffn_ratio": ratio})
        )
    print(f"{len(every)} shapes exported or found in {time.perf_counter() - started:.1f} s")
    for target in TARGETS:  # compile the kernels before the clock starts
        outcome = evaluate(resolve_point(SPEC, {"target": target, "model.layers": 12, "model.ffn_ratio": 4}))
        if outcome.note:
            raise SystemExit(f"{target}: {outcome.note}")
    rates = []
    modes = (("target parameters", itertools.repeat((12, 4))), ("model shape", itertools.cycle(every)))
    for name, shapes in modes:
        count, took, busy, spent = measure(shapes, seconds, seed=1 + len(rates))
        rates.append(count / busy)
        per = ", ".join(f"{t} {1e3 * s / count:.2f} ms" for t, s in spent.items())
        print(
            f"{name}: {count} four-target evaluations in {took:.1f} s ({busy:.1f} s of processor time): "
            f"{count / busy:.0f} per processor second, {count / took:.0f} per second ({per})"
        )
    configured.cache_clear()
    print(f"RESULT dse_speed target_parameters_per_s={rates[0]:.1f} model_shape_per_s={rates[1]:.1f}")


if __name__ == "__main__":
    main()
