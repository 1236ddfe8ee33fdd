"""Random models, targets and changes: relations that must hold whatever the numbers are.

    python benchmarks/metamorphic.py --points 500 --seed 1

More bandwidth, channels, multiprocessors or cores is never slower; longer prompts and larger batches are
never cheaper; twice the layers take about twice; a run's parts sum to its time; a rerun gives the same bytes,
under other hash seeds, thread counts and locales and with the targets in another order. Prints violations,
and exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tetrasim import facade
from tetrasim.errors import UserError
from tetrasim.sim.result import Result

MODELS = {
    "gpt2-small": "decoder", "llama2-7b": "decoder", "bert-base": "encoder", "digits-tiny": "fixed",
    "vit-b16": "fixed", "gpt2-large": "decoder",
}  # fmt: skip
# What is more of a resource: path, factor; whole numbers stay whole.
MORE: dict[str, tuple[str, ...]] = {
    "gpu/t4": ("dram.bandwidth_bytes_per_s", "sm_count", "clock_hz"),
    "gpu/a100-sxm4-80gb": ("dram.bandwidth_bytes_per_s", "sm_count", "clock_hz"),
    "gpu/h100-sxm": ("dram.bandwidth_bytes_per_s", "sm_count", "clock_hz"),
    "cpu/xeon-6154": ("dram.bandwidth_bytes_per_s", "core.clock_hz"),
    "cpu/epyc-7763": ("dram.bandwidth_bytes_per_s", "core.clock_hz"),
    "fpga/u280": (
        "off_chip.bandwidth_bytes_per_s",
        "overlay.clock_hz",
        "overlay.columns",
        "overlay.vector_lanes",
    ),
    "fpga/vu13p": ("off_chip.bandwidth_bytes_per_s", "overlay.clock_hz"),
    "pim/pim-gpt": ("channels", "host.adders", "host.clock_hz"),
    "pim/aim": ("channels", "host.adders", "host.clock_hz"),
}
SLACK = 1e-9  # relative: additions in another order
Point = tuple[str, str, dict[str, int]]


def simulate(point: Point, settings: dict[str, Any] | None = None) -> Result | None:
    """The result, or None where the target refuses the model or a setting."""
    model, target, workload = point
    try:
        found = facade.simulate(model, target, numerics=False, settings=settings, **workload)
    except UserError:
        return None
    return found.results[0]


def random_point(rng: random.Random) -> Point:
    """A model, a target and a workload."""
    model = rng.choice(list(MODELS))
    workload = {"batch": rng.choice((1, 2, 4))}
    if MODELS[model] != "fixed":
        workload["prompt"] = rng.choice((8, 32, 100, 128, 200, 512))
    if MODELS[model] == "decoder":
        workload["generate"] = rng.choice((0, 1, 8, 32))
    return model, rng.choice(list(MORE)), workload


def more_is_never_slower(rng: random.Random, point: Point) -> Iterator[str]:
    path = rng.choice(MORE[point[1]])
    config = facade_config(point[1])
    before = config
    for name in path.split("."):
        before = before.get(name) if isinstance(before, dict) else None
    if not isinstance(before, int | float):
        return
    more = before * rng.choice((1.25, 2, 4))
    more = int(more) if isinstance(before, int) else more
    a, b = simulate(point), simulate(point, {path: more})
    if a and b and b.latency.value > a.latency.value * (1 + SLACK):
        yield f"{path} {before} -> {more}: {a.latency.value:.6g} -> {b.latency.value:.6g} ns"


def facade_config(preset: str) -> dict[str, Any]:
    """A preset's values as a tree."""
    from tetrasim.hw_targets.registry import find_preset

    return find_preset(preset)[1].config.model_dump()


def longer_is_never_cheaper(rng: random.Random, point: Point) -> Iterator[str]:
    model, target, workload = point
    name = rng.choice(sorted(workload))
    larger = {**workload, name: workload[name] * 2 + 1 if name != "batch" else workload[name] * 2}
    a, b = simulate(point), simulate((model, target, larger))
    for what in ("latency", "energy"):
        if a and b and getattr(b, what).value < getattr(a, what).value * (1 - SLACK):
            x, y = getattr(a, what).value, getattr(b, what).value
            yield f"{name} {workload[name]} -> {larger[name]}: {what} {x:.6g} -> {y:.6g}"


def parts_sum_to_the_whole(_rng: random.Random, point: Point) -> Iterator[str]:
    from tetrasim.reports import view

    found = simulate(point)
    if found is None:
        return
    total = sum(share.fraction for share in view.time_shares(found))
    if abs(total - 1) > 1e-6:
        yield f"parts of time sum to {total:.9f}"


def twice_the_layers(rng: random.Random, point: Point) -> Iterator[str]:
    """Of GPT-2 small's width: between the layers' share and twice, as embedding and head stay."""
    from tetrasim.models.zoo import resolve

    layers, target = rng.choice((3, 6, 12)), point[1]
    times = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in (layers, 2 * layers, 4 * layers):
            config = resolve("gpt2-small").model_dump(mode="json") | {
                "layers": count,
                "name": f"gpt2-{count}",
            }
            file = Path(scratch) / f"gpt2-{count}.yaml"
            file.write_text(yaml.safe_dump(config), encoding="utf-8")
            found = simulate((str(file), target, {"prompt": 32, "generate": 0}))
            if found is None:
                return
            times.append(found.latency.value)
    first, second = times[1] - times[0], times[2] - times[1]
    if not 1.9 <= second / first <= 2.1:
        yield f"{layers} layers more take {first:.6g} ns, {2 * layers} more {second:.6g} ns"


def the_same_twice(rng: random.Random, point: Point) -> Iterator[str]:
    """Other hash seeds, threads and locales, and the targets in another order, in processes of their own."""
    model, target, workload = point
    other = rng.choice([t for t in MORE if t != target])
    texts = []
    for order, seed, threads, locale in (
        ((target, other), "1", "1", "C.UTF-8"),
        ((other, target), "77", "2", "C"),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            words = [w for name, n in workload.items() for w in (f"--{name}", str(n))]
            command = ["run", model, "--on", *order, *words, "-o", f"{scratch}/out", "-q", "--no-cache"]
            environment = {
                **os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "LC_ALL": locale,
            }  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", "tetrasim", *command, "--no-numerics"],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 2:
                return
            if done.returncode:
                yield done.stderr[-300:]
                return
            folder = Path(scratch) / "out" / target.replace("/", "-")
            texts.append((folder / "ops.csv").read_bytes() if folder.is_dir() else b"")
    if texts[0] != texts[1]:
        yield f"beside {other}: ops.csv differs"


RELATIONS: tuple[tuple[Callable[[random.Random, Point], Iterator[str]], float], ...] = (
    (more_is_never_slower, 0.5),
    (longer_is_never_cheaper, 0.35),
    (parts_sum_to_the_whole, 0.1),
    (twice_the_layers, 0.04),
    (the_same_twice, 0.01),
)


def main() -> int:
    """Check the points; the last line holds the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, began = random.Random(options.seed), time.monotonic()
    checked, violations = Counter[str](), 0
    for _ in range(options.points):
        point = random_point(rng)
        relation = rng.choices([r for r, _ in RELATIONS], [weight for _, weight in RELATIONS])[0]
        checked[relation.__name__] += 1
        for problem in relation(rng, point):
            violations += 1
            print(f"{relation.__name__}: {point[0]} on {point[1]} {point[2]}: {problem}", flush=True)
    counts = " ".join(f"{name}={n}" for name, n in sorted(checked.items()))
    print(f"RESULT metamorphic points={options.points} {counts} violations={violations} "
          f"seconds={time.monotonic() - began:.0f}")  # fmt: skip
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
