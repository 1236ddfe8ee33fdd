"""The FPGA model against committed measurements: synthesised dense layers and measured boards.

`validate()` refits the dense models on rows that leave a part out and prints the error on that part: rows at
random, whole (n_in, n_out) shapes, whole weight widths, whole reuse factors. The narrowest and the widest
width stay in, since without them the layer would be outside the domain; so does reuse 1, which is a kernel of
its own. Board power is the static power of a preset against the mean and the spread of measured boards.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dense_model import WIDTHS, DenseEstimate, estimate_dense, predict
from tetrasim.hw_targets.fpga.dense_rows import DenseRow, rows
from tetrasim.hw_targets.fpga.reuse import nearest_reuse
from tetrasim.hw_targets.fpga.shared_dense import train_shared
from tetrasim.hw_targets.fpga.unrolled_dense import train_unrolled

FOLDS = 5
SEED = 1
POWER = Path(__file__).parent / "data" / "board_power.csv"
NETWORKS = Path(__file__).parent / "data" / "mlp3_vsynth.csv"
QUANTITIES = ("interval", "latency", "lut", "ff", "dsp", "bram18")
STRATEGIES = {"resource": "csynth, Resource", "latency": "csynth, Latency"}
Key = Callable[[DenseRow], Hashable]
LEFT_OUT: dict[str, Key] = {
    "each shape": lambda r: (r.layer.n_in, r.layer.n_out),
    "each width": lambda r: r.layer.bits,
    "each reuse": lambda r: r.layer.reuse,
}


@dataclass(frozen=True, slots=True)
class ValidationRow:
    """One quantity. `mean_error` is relative (over rows that have any); `within_one` the share of rows within
    one unit (cycle, block)."""

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
    out = []
    for name, folds in splits():
        pairs = left_out(folds)
        for strategy, measured in STRATEGIES.items():
            some = [(r, e) for r, e in pairs if r.layer.strategy == strategy]
            out += [_compare(quantity, measured, name, some) for quantity in QUANTITIES]
    return [*out, *network_rows(), *power_rows()]


def splits() -> Iterator[tuple[str, list[list[int]]]]:
    """What is left out, as row numbers per fold."""
    known = rows()
    order = np.random.default_rng(SEED).permutation(len(known))
    yield "1 row in 5", [[int(i) for i in order[k::FOLDS]] for k in range(FOLDS)]
    for name, key in LEFT_OUT.items():
        kept = (*WIDTHS, 1) if name != "each shape" else ()
        values = sorted({key(r) for r in known} - set(kept), key=repr)
        yield name, [[i for i, r in enumerate(known) if key(r) == v] for v in values]


def left_out(folds: Sequence[Sequence[int]]) -> list[tuple[DenseRow, DenseEstimate]]:
    """Each row of the folds with the estimate of models that did not see its fold."""
    known = rows()
    out = []
    for fold in folds:
        away = set(fold)
        seen = [r for i, r in enumerate(known) if i not in away]
        shared = train_shared([r for r in seen if r.layer.shared])
        unrolled = train_unrolled([r for r in seen if not r.layer.shared])
        out += [(known[i], predict(known[i].layer, shared, unrolled)) for i in fold]
    return out


def _compare(
    quantity: str, measured: str, name: str, pairs: Sequence[tuple[DenseRow, DenseEstimate]]
) -> ValidationRow:
    of_row = {"latency": "latency_max"}.get(quantity, quantity)
    truth = [getattr(r, of_row) for r, _ in pairs]
    return _row(quantity, measured, name, truth, [getattr(e, quantity) for _, e in pairs])


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
        float(relative.mean()) if len(relative) else 0.0,
        float(np.quantile(relative, 0.9)) if len(relative) else 0.0,
        float((wrong < 0.5).mean()),
        float((wrong <= 1).mean()),
    )


def network_rows() -> list[ValidationRow]:
    """Three-layer networks at 4 bits, placed logic of Vitis 2023.2 (github:jdweitz/wa-hls4ml, numbers only):
    layers summed, nothing fitted to them, most outside the rows' domain."""
    truth: list[tuple[int, int, int]] = []
    made: list[tuple[float, float, float]] = []
    with NETWORKS.open(newline="") as file:
        for row in csv.DictReader(file):
            sizes, bits = [int(n) for n in row["layers"].split("-")], int(row["bits"])
            pairs = list(itertools.pairwise(sizes))
            layers = [estimate_dense(a, b, bits, nearest_reuse(a, b, int(row["reuse"]))) for a, b in pairs]
            truth.append((int(row["latency_max"]), int(row["lut"]), int(row["bram18"])))
            made.append(
                (
                    sum(e.latency for e in layers),
                    sum(e.lut for e in layers),
                    sum(e.bram18 for e in layers),
                )
            )
    return [
        _row(
            f"{name}, 3 layers",
            "vsynth, Vitis 2023.2",
            "not fitted",
            [t[i] for t in truth],
            [m[i] for m in made],
        )
        for i, name in enumerate(("latency", "lut", "bram18"))
    ]


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
