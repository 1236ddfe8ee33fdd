"""The FPGA model against committed measurements: synthesised dense layers and measured boards.

`validate()` refits the dense model on rows that leave a part out and prints the error on that part, twice:
rows left
out at random, and whole (n_in, n_out) shapes left out. Board power is the static power of a preset against
the mean
and the spread of measured boards.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dense_model import (
    TARGETS,
    DenseRow,
    interval_of,
    latency_of,
    predict,
    resource_rows,
    rows,
    train,
)
from tetrasim.hw_targets.fpga.resources import Cost, constant_products

FOLDS = 5
SEED = 1
POWER = Path(__file__).parent / "data" / "board_power.csv"


@dataclass(frozen=True, slots=True)
class ValidationRow:
    """One quantity. `mean_error` is relative; `within_one` the share of rows within one unit (cycle,
    block)."""

    quantity: str
    measured: str
    left_out: str
    rows: int
    mean_error: float
    p90_error: float
    exact: float
    within_one: float


def validate() -> list[ValidationRow]:
    """All comparisons, in print order."""
    known = resource_rows()
    out = [
        _row(
            "interval",
            "csynth, Resource",
            "law, not fitted",
            [r.interval for r in known],
            _each(known, interval_of),
        ),
        _row(
            "latency",
            "csynth, Resource",
            "law, not fitted",
            [r.latency_max for r in known],
            _each(known, latency_of),
        ),
    ]
    for name, folds in (
        ("1 row in 5, at random", _random_folds(known)),
        ("1 shape in 5", _shape_folds(known)),
    ):
        out += [left_out(target, known, folds, name) for target in TARGETS]
    unrolled = [r for r in rows() if r.reuse == 1 and r.strategy == "latency"]
    for target in ("lut", "ff", "dsp"):
        made = [getattr(_unrolled(r), target) for r in unrolled]
        out.append(
            _row(
                f"{target}, reuse 1 (law)",
                "csynth, Latency",
                "none",
                [getattr(r, target) for r in unrolled],
                made,
            )
        )
    return [*out, *power_rows()]


def left_out(
    target: str, known: Sequence[DenseRow], folds: Sequence[Sequence[int]], name: str
) -> ValidationRow:
    """Error of one target on rows that its model did not see."""
    measured: list[float] = []
    made: list[float] = []
    for fold in folds:
        out = set(fold)
        model = train(target, tuple(r for i, r in enumerate(known) if i not in out))
        for i in fold:
            r = known[i]
            measured.append(getattr(r, target))
            made.append(predict(model, target, r.n_in, r.n_out, r.bits, r.reuse))
    return _row(target, "csynth, Resource", name, measured, made)


def _unrolled(r: DenseRow) -> Cost:
    return constant_products(float(r.n_in * r.n_out), r.bits, r.bits)


def _each(known: Sequence[DenseRow], law: Callable[[int, int, int, int], int]) -> list[float]:
    return [law(r.n_in, r.n_out, r.bits, r.reuse) for r in known]


def _random_folds(known: Sequence[DenseRow]) -> list[list[int]]:
    order = np.random.default_rng(SEED).permutation(len(known))
    return [[int(i) for i in order[k::FOLDS]] for k in range(FOLDS)]


def _shape_folds(known: Sequence[DenseRow]) -> list[list[int]]:
    shapes = sorted({(r.n_in, r.n_out) for r in known})
    order = np.random.default_rng(SEED).permutation(len(shapes))
    group = {shapes[int(s)]: k % FOLDS for k, s in enumerate(order)}
    return [[i for i, r in enumerate(known) if group[r.n_in, r.n_out] == k] for k in range(FOLDS)]


def _row(
    quantity: str, source: str, left: str, measured: Sequence[float], made: Sequence[float]
) -> ValidationRow:
    truth, guess = np.array(measured, np.float64), np.array(made, np.float64)
    wrong = np.abs(guess - truth)
    relative = wrong[truth > 0] / truth[truth > 0]
    return ValidationRow(
        quantity,
        source,
        left,
        len(truth),
        float(relative.mean()),
        float(np.quantile(relative, 0.9)),
        float((wrong < 0.5).mean()),
        float((wrong <= 1).mean()),
    )


def board_power() -> dict[str, list[float]]:
    """Measured watts by board (MLPerf Tiny v0.7 open division, whole-board supply)."""
    found: dict[str, list[float]] = {}
    with POWER.open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["board"], []).append(
                float(row["energy_uj"]) * float(row["throughput_during_power_per_s"]) * 1e-6
            )
    return found


def power_rows() -> list[ValidationRow]:
    """Static power of a board's preset against its measurements; each one left out of the mean in turn."""
    from tetrasim.hw_targets.registry import find_preset

    out = []
    for board, watts in board_power().items():
        config = find_preset(f"fpga/{board}")[1].config
        assert isinstance(config, FpgaConfig)
        others = [(sum(watts) - w) / (len(watts) - 1) for w in watts]
        out.append(_row(f"power, {board}", "board, MLPerf Tiny", "1 model in 4", watts, others))
        fixed = [config.power.static_w] * len(watts)
        out.append(_row(f"power, {board}", "board, MLPerf Tiny", "none (preset)", watts, fixed))
    return out
