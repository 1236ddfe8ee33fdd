"""Fit the GPU calibration to public measurements and print the error on sites that were left out.

    python benchmarks/fit_gpu.py --measured DIR [--budget 2500] [--write]

DIR holds the tables named in `TABLES` (aiconfigurator, Apache-2.0; NeuSight, MIT), as CSV with the columns
listed in each loader. Whole sites (all rows of one (n, k), or of one head and batch configuration) are kept
out of the fit; their error is what is printed, and what becomes the error range of results. `--write`
replaces calibration.yaml, shared_gemm.yaml, errors.yaml, measured/*.csv and the fitted launch cost in the
presets. A full run starts from fixed values and not from what ships: it gives the same files every time.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from fit_gpu_ranges import left_out, ranges
from fit_gpu_search import optimise
from fit_gpu_shared import fit_sets
from fit_gpu_shared import write as write_shared
from fit_gpu_start import STARTS, Bounds, complete, start_calibration
from fit_gpu_tables import TABLES, Table, load_table, ship
from fit_gpu_unfitted import SOURCES, unfitted

from tetrasim.hw_targets.gpu import errors as errors_module
from tetrasim.hw_targets.gpu import measurements
from tetrasim.hw_targets.gpu.calibration import FILE as CALIBRATION_FILE
from tetrasim.hw_targets.gpu.calibration import Calibration, calibration, forget
from tetrasim.hw_targets.gpu.config import Launch
from tetrasim.hw_targets.gpu.device import FORMATS
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels import gemm
from tetrasim.hw_targets.gpu.measurements import Measured, predict, preset_config

START_EAGER_US = 25.0
SHARED_BUDGET = 1500
MOST_ROWS = 4000  # training rows per fit; more change the result by less than the seed does


@dataclass
class State:
    """The calibration of one preset while it is being fitted, and its eager launch cost."""

    fit: Calibration
    eager_us: float
    eager_product_us: float


def split(measured: Measured) -> tuple[Measured, Measured]:
    """Training rows and the rows of the sites that are left out."""
    mask = left_out(measured)
    train = np.random.default_rng(0).permutation(np.flatnonzero(~mask))[:MOST_ROWS]
    return measured.take(train), measured.take(np.flatnonzero(mask))


def with_params(state: State, table: Table, params: Mapping[str, float]) -> State:
    """`state` with the parameters of the table's op class (and power and launch) replaced."""
    fit = state.fit
    power_names = {f.name for f in fields(fit.power)}
    power = replace(fit.power, **{n: v for n, v in params.items() if n in power_names})
    own = {n: v for n, v in params.items() if n not in power_names and not n.startswith("eager")}
    fit = replace(fit, power=power)
    if table.kind == "gemm":
        i = FORMATS.index(table.part)
        rows = list(fit.gemm)
        rows[i] = replace(rows[i], **own)
        fit = replace(fit, gemm=tuple(rows))
    elif table.kind == "attention":
        i = att.KERNELS.index(table.part)
        kernels = list(fit.attention)
        kernels[i] = replace(kernels[i], **own)
        fit = replace(fit, attention=tuple(kernels))
    else:
        fit = replace(fit, vector=replace(fit.vector, **own))
    eager = params.get("eager_us", state.eager_us)
    return State(fit, eager, params.get("eager_product_us", state.eager_product_us))


def current(state: State, table: Table) -> dict[str, float]:
    """The parameters that `with_params` sets, as they are."""
    parts = {
        "gemm": lambda: state.fit.gemm[FORMATS.index(table.part)],
        "attention": lambda: state.fit.attention[att.KERNELS.index(table.part)],
        "vector": lambda: state.fit.vector,
    }
    launch = {"eager_us": state.eager_us, "eager_product_us": state.eager_product_us}
    return {**asdict(parts[table.kind]()), **asdict(state.fit.power), **launch}


def latency(measured: Measured, state: State) -> np.ndarray:
    """Predicted latency with the state's own launch cost."""
    bare = replace(measured, launch=Launch.GRAPH)
    host_us = state.eager_product_us if isinstance(measured.rows, gemm.GemmRows) else state.eager_us
    launch = host_us if measured.launch is Launch.EAGER else 0.0
    return predict(bare, state.fit).latency_us + launch


def ape(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    return np.abs(predicted / actual - 1.0)


def fit_table(table: Table, measured: Measured, state: State, budget: int) -> State:
    """Fit one table and print the error on its left-out rows."""
    train, test = split(measured)

    def loss(params: Mapping[str, float]) -> float:
        return float(ape(latency(train, with_params(state, table, params)), train.latency_us).mean())

    found = [optimise(loss, current(state, table), table.bounds, budget, seed) for seed in range(table.seeds)]
    best = min(found, key=loss)
    state = with_params(state, table, best)
    ratio = latency(test, state) / test.latency_us
    error = np.abs(ratio - 1)
    print(
        f"{table.preset:16s} {table.label:16s} train {loss(best):6.1%} (n={len(train.latency_us)})"
        f"  left out {error.mean():6.1%} median {np.median(error):5.1%} p90 {np.percentile(error, 90):5.1%}"
        f" (n={len(error)})",
        flush=True,
    )
    return state


def fit_power(measured: Measured, state: State, budget: int) -> State:
    """Board power of long kernels: energy per flop and byte, watts of running SMs, ramp."""
    train, test = split(measured)
    bounds: Bounds = {
        "base_w": (1, 60),
        "active_w": (1, 200),
        "tensor_pj_per_flop": (0.1, 2),
        "dram_pj_per_byte": (20, 200),
        "ramp_us": (0.1, 60),
    }

    def error(rows: Measured, fit: Calibration) -> np.ndarray:
        assert rows.power_w is not None
        return ape(predict(rows, fit).power_w, rows.power_w)

    def loss(params: Mapping[str, float]) -> float:
        return float(error(train, replace(state.fit, power=replace(state.fit.power, **params))).mean())

    best = optimise(loss, asdict(state.fit.power), bounds, budget, seed=2)
    fit = replace(state.fit, power=replace(state.fit.power, **best))
    long = test.take(np.flatnonzero(test.latency_us > 30))
    print(
        f"{measured.preset:16s} board power      left out: kernels above 30 us {error(long, fit).mean():.1%},"
        f" all {error(test, fit).mean():.1%}"
    )
    return replace(state, fit=fit)


def write_eager(preset: str, state: State) -> None:
    """Put the fitted framework launch costs into the preset, with their source."""
    file = Path(measurements.__file__).parent / "presets" / f"{preset}.yaml"
    text = file.read_text()
    for key, us in (("eager_launch_s", state.eager_us), ("eager_product_s", state.eager_product_us)):
        line = f'{key}: {{value: {us:.1f}e-6, source: "eager PyTorch kernels of NeuSight, fitted"}}'
        text = re.sub(key + r": \{.*\}", line, text)
    file.write_text(text)


def to_tree(fit: Calibration) -> dict[str, dict[str, dict[str, float]]]:
    """The YAML form of a calibration."""

    def rounded(values: Mapping[str, float]) -> dict[str, float]:
        return {n: float(f"{v:.5g}") for n, v in values.items()}

    def product(name: str, values: dict[str, float]) -> dict[str, float]:
        if name not in fit.shared:
            return values
        return {"shared": 1.0, **{n: values[n] for n in ("quantise_us", "quantise_passes")}}

    formats = {name: rounded(asdict(g)) for name, g in zip(FORMATS, fit.gemm, strict=True)}
    return {
        "device": {"all": {"clock_hz": float(fit.clock_hz), "sm_count": float(fit.sm_count)}},
        "gemm": {name: product(name, values) for name, values in formats.items()},
        "attention": {name: rounded(asdict(a)) for name, a in zip(att.KERNELS, fit.attention, strict=True)},
        "vector": {"all": rounded(asdict(fit.vector))},
        "power": {"all": rounded(asdict(fit.power))},
    }


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, _data: object) -> bool:
        return True


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--measured", type=Path, required=True, help="folder of the measured tables")
    parser.add_argument("--budget", type=int, default=2500, help="evaluations per table")
    parser.add_argument("--only", default="", help="fit again only presets that contain this text")
    parser.add_argument("--label", default="", help="… and only op classes that contain this text")
    parser.add_argument("--write", action="store_true", help="replace the calibration that ships")
    parser.add_argument("--no-fit", action="store_true", help="with --write: keep the fits, redo the rest")
    parser.add_argument("--jobs", type=int, default=2, help="processes; the result does not depend on it")
    args = parser.parse_args()
    warm = args.no_fit or args.only or args.label  # start from what ships, and keep what is not fitted again
    states = {p: (shipped_state(p) if warm else start_state(p)) for p in STARTS}
    chosen = [t for t in TABLES if args.only in t.preset and args.label in t.label and not args.no_fit]
    with ProcessPoolExecutor(max_workers=args.jobs) as pool:
        sets = None if warm else pool.submit(fit_sets, args.measured, SHARED_BUDGET)
        jobs = [
            pool.submit(fit_chain, chain, states, args.measured, args.budget, bool(warm))
            for chain in chains(chosen)
        ]
        for job in jobs:
            states.update(job.result())
        if sets is not None and args.write:
            write_shared(sets.result())
            forget()
    eager = {t.preset for t in chosen if load_table(t, args.measured).launch is Launch.EAGER}
    if args.write:
        write(states, eager, args.measured)


def chains(tables: Sequence[Table]) -> list[list[Table]]:
    """Tables to be fitted one after another: those of a preset, and of presets that inherit from it."""
    root = {t.preset: t.inherits or t.preset for t in tables}
    root |= {t.preset: t.inherits for t in tables if t.inherits}
    return [[t for t in tables if root[t.preset] == name] for name in dict.fromkeys(root.values())]


def start_state(preset: str) -> State:
    """Where a preset's fit starts, whatever ships."""
    return State(start_calibration(preset), START_EAGER_US, START_EAGER_US)


def shipped_state(preset: str) -> State:
    """What ships."""
    host = preset_config(preset).host
    return State(calibration(preset), host.eager_launch_s * 1e6, host.eager_product_s * 1e6)


def fit_chain(
    tables: Sequence[Table], states: Mapping[str, State], folder: Path, budget: int, warm: bool
) -> dict[str, State]:
    """Fit one chain; the states of its presets."""
    found = dict(states)
    for table in tables:
        measured = load_table(table, folder)
        if table.inherits and not warm:
            found[table.preset] = inherit(found[table.preset], found[table.inherits], table)
        found[table.preset] = fit_table(table, measured, found[table.preset], budget)
        if measured.power_w is not None and table.part == "half":
            found[table.preset] = fit_power(measured, found[table.preset], budget)
    return {t.preset: found[t.preset] for t in tables}


def inherit(state: State, parent: State, table: Table) -> State:
    """Start a table's fit from another device's parameters of the same op class."""
    return with_params(state, table, {n: v for n, v in current(parent, table).items() if n in table.bounds})


def write(states: Mapping[str, State], eager: set[str], folder: Path) -> None:
    """Replace the files that ship: calibration, launch costs, validation rows, error ranges."""
    done = complete({preset: state.fit for preset, state in states.items()})
    tree = {name: to_tree(fit) for name, fit in done.items()}
    head = "# Written by benchmarks/fit_gpu.py: do not edit. Units and meaning: the classes in *Fit.\n"
    CALIBRATION_FILE.write_text(head + yaml.dump(tree, Dumper=_NoAliases, sort_keys=False))
    for preset in eager:
        write_eager(preset, states[preset])
    left = [split(load_table(table, folder))[1] for table in TABLES]
    ship([*left, *unfitted(folder)], measurements.FOLDER, SOURCES)
    forget()
    preset_config.cache_clear()
    head = (
        "# Written by benchmarks/fit_gpu.py: do not edit. measured / predicted, 10th and 90th percentile.\n"
    )
    errors_module.FILE.write_text(head + yaml.dump(ranges(folder), Dumper=_NoAliases, sort_keys=False))


if __name__ == "__main__":
    main()
