"""Fit the GPU calibration to public tables of kernels: `tetrasim calibrate gpu --from TABLES`.

The folder holds the tables that `tables.py` names (aiconfigurator, Apache-2.0; NeuSight, MIT), as CSV. Whole
sites (all rows of one (n, k), or of one head and batch configuration) are kept out of the fit; their error
is what is reported, and what becomes the error range of results. A fit starts from fixed values
(`start.py`), not from what ships, and gives the same files every time, on any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.calibration import Calibration
from tetrasim.hw_targets.gpu.config import Launch
from tetrasim.hw_targets.gpu.device import FORMATS
from tetrasim.hw_targets.gpu.fit.ranges import left_out
from tetrasim.hw_targets.gpu.fit.search import Bounds, optimise
from tetrasim.hw_targets.gpu.fit.shared import fit_sets
from tetrasim.hw_targets.gpu.fit.start import STARTS, start_calibration
from tetrasim.hw_targets.gpu.fit.tables import TABLES, Table, load_table
from tetrasim.hw_targets.gpu.kernels import gemm
from tetrasim.hw_targets.gpu.kernels.attention import KERNELS
from tetrasim.hw_targets.gpu.measurements import Measured, Predicted, predict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.hw_targets.gpu.transfer import SharedGemm

START_EAGER_US = 25.0
BUDGET, SHARED_BUDGET = 1200, 1500  # evaluations per table, and per set of shared parameters
MOST_ROWS = 4000  # training rows per fit; more change the result by less than the seed does
POWER_BOUNDS: Bounds = {
    "base_w": (1, 60),
    "active_w": (1, 200),
    "tensor_pj_per_flop": (0.1, 2),
    "dram_pj_per_byte": (20, 200),
    "ramp_us": (0.1, 60),
}
POWER_SEED = 2
LONG_US = 30.0


@dataclass(frozen=True)
class State:
    """The calibration of one preset while it is being fitted, and its eager launch cost."""

    fit: Calibration
    eager_us: float = START_EAGER_US
    eager_product_us: float = START_EAGER_US


@dataclass(frozen=True)
class Fitted:
    """What a fit found: a state per measured preset, the shared 16-bit parameters by set, and what was said
    of the errors on the rows that were left out."""

    states: Mapping[str, State]
    shared: Mapping[str, SharedGemm]
    lines: tuple[str, ...]


def fit(
    folder: Path,
    budget: int = BUDGET,
    shared_budget: int = SHARED_BUDGET,
    jobs: int = 2,
    progress: Callable[[str, float], None] = lambda _text, _share: None,
) -> Fitted:
    """Fit everything to the tables in `folder`.

    Args:
        folder: the measured tables.
        budget: evaluations of the error per table.
        shared_budget: evaluations per set of shared parameters.
        jobs: processes; the result does not depend on it.
        progress: told what was fitted and which share of the whole is done.
    """
    states = {preset: State(start_calibration(preset)) for preset in STARTS}
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        sets = pool.submit(fit_shared_sets, folder, shared_budget)
        work = [pool.submit(fit_chain, chain, states, folder, budget) for chain in chains(TABLES)]
        lines: list[str] = []
        for i, job in enumerate(work):
            found, said = job.result()
            states.update(found)
            lines += said
            progress(f"fitted {', '.join(found)}", (i + 1) / (len(work) + 1))
        shared, said = sets.result()
    return Fitted(states, shared, (*lines, *said))


def fit_shared_sets(folder: Path, budget: int) -> tuple[dict[str, SharedGemm], list[str]]:
    """The shared sets and the error of each."""
    lines: list[str] = []
    return fit_sets(folder, budget, lines.append), lines


def chains(tables: Sequence[Table]) -> list[list[Table]]:
    """Tables to be fitted one after another: those of a preset, and of presets that inherit from it."""
    root = {t.preset: t.inherits or t.preset for t in tables}
    root |= {t.preset: t.inherits for t in tables if t.inherits}
    return [[t for t in tables if root[t.preset] == name] for name in dict.fromkeys(root.values())]


def fit_chain(
    tables: Sequence[Table], states: Mapping[str, State], folder: Path, budget: int
) -> tuple[dict[str, State], list[str]]:
    """Fit one chain; the states of its presets, and the errors on what was left out."""
    found, lines = dict(states), list[str]()
    for table in tables:
        measured = load_table(table, folder)
        if table.inherits:
            found[table.preset] = inherit(found[table.preset], found[table.inherits], table)
        found[table.preset], line = fit_table(table, measured, found[table.preset], budget)
        lines.append(line)
        if measured.power_w is not None and table.part == "half":
            found[table.preset], line = fit_power(measured, found[table.preset], budget)
            lines.append(line)
    return {t.preset: found[t.preset] for t in tables}, lines


def inherit(state: State, parent: State, table: Table) -> State:
    """Start a table's fit from another device's parameters of the same op class."""
    return with_params(state, table, {n: v for n, v in current(parent, table).items() if n in table.bounds})


def split(measured: Measured) -> tuple[Measured, Measured]:
    """Training rows and the rows of the sites that are left out."""
    mask = left_out(measured)
    train = np.random.default_rng(0).permutation(np.flatnonzero(~mask))[:MOST_ROWS]
    return measured.take(train), measured.take(np.flatnonzero(mask))


def with_params(state: State, table: Table, params: Mapping[str, float]) -> State:
    """`state` with the parameters of the table's op class (and power and launch) replaced."""
    done = state.fit
    power_names = {f.name for f in fields(done.power)}
    power = replace(done.power, **{n: v for n, v in params.items() if n in power_names})
    own = {n: v for n, v in params.items() if n not in power_names and not n.startswith("eager")}
    done = replace(done, power=power)
    if table.kind == "gemm":
        i = FORMATS.index(table.part)
        products = (*done.gemm[:i], replace(done.gemm[i], **own), *done.gemm[i + 1 :])
        done = replace(done, gemm=products)
    elif table.kind == "attention":
        i = KERNELS.index(table.part)
        kernels = (*done.attention[:i], replace(done.attention[i], **own), *done.attention[i + 1 :])
        done = replace(done, attention=kernels)
    else:
        done = replace(done, vector=replace(done.vector, **own))
    eager = params.get("eager_us", state.eager_us)
    return State(done, eager, params.get("eager_product_us", state.eager_product_us))


def current(state: State, table: Table) -> dict[str, float]:
    """The parameters that `with_params` sets, as they are."""
    if table.kind == "gemm":
        own = asdict(state.fit.gemm[FORMATS.index(table.part)])
    elif table.kind == "attention":
        own = asdict(state.fit.attention[KERNELS.index(table.part)])
    else:
        own = asdict(state.fit.vector)
    launch = {"eager_us": state.eager_us, "eager_product_us": state.eager_product_us}
    return {**own, **asdict(state.fit.power), **launch}


def predicted(measured: Measured, state: State) -> Predicted:
    """What a state says about rows, with its own launch cost."""
    found = predict(replace(measured, launch=Launch.GRAPH), state.fit)
    host_us = state.eager_product_us if isinstance(measured.rows, gemm.GemmRows) else state.eager_us
    launch = host_us if measured.launch is Launch.EAGER else 0.0
    return replace(found, latency_us=found.latency_us + launch)


def fit_table(table: Table, measured: Measured, state: State, budget: int) -> tuple[State, str]:
    """Fit one table; the error on its left-out rows in words."""
    train, test = split(measured)

    def loss(params: Mapping[str, float]) -> float:
        found = predicted(train, with_params(state, table, params)).latency_us
        return float(_error(found, train.latency_us).mean())

    tries = [optimise(loss, current(state, table), table.bounds, budget, seed) for seed in range(table.seeds)]
    best = min(tries, key=loss)
    done = with_params(state, table, best)
    error = _error(predicted(test, done).latency_us, test.latency_us)
    return done, (
        f"{table.preset:16s} {table.label:16s} train {loss(best):6.1%} (n={len(train.latency_us)})"
        f"  left out {error.mean():6.1%} median {np.median(error):5.1%} p90 {np.percentile(error, 90):5.1%}"
        f" (n={len(error)})"
    )


def fit_power(measured: Measured, state: State, budget: int) -> tuple[State, str]:
    """Board power of long kernels: energy per flop and byte, watts of running SMs, ramp."""
    train, test = split(measured)

    def error(rows: Measured, calibration: Calibration) -> NDArray[np.float64]:
        assert rows.power_w is not None
        return _error(predict(rows, calibration).power_w, rows.power_w)

    def loss(params: Mapping[str, float]) -> float:
        return float(error(train, replace(state.fit, power=replace(state.fit.power, **params))).mean())

    best = optimise(loss, asdict(state.fit.power), POWER_BOUNDS, budget, POWER_SEED)
    done = replace(state.fit, power=replace(state.fit.power, **best))
    long = test.take(np.flatnonzero(test.latency_us > LONG_US))
    return replace(state, fit=done), (
        f"{measured.preset:16s} board power      left out: kernels above {LONG_US:g} us"
        f" {error(long, done).mean():.1%}, all {error(test, done).mean():.1%}"
    )


def _error(found: NDArray[np.float64], actual: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(found / actual - 1.0)


def left_out_rows(folder: Path) -> Iterator[Measured]:
    """The rows of every table that its fit has not seen."""
    for table in TABLES:
        yield split(load_table(table, folder))[1]
