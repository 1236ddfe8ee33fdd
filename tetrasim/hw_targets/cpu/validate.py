"""`tetrasim validate cpu`: the model against committed measurements, class by class.

Two sources. A host that was calibrated and then measured on shapes the calibration had not seen
(`measured/host.csv` with its calibration `measured/host.yaml`, written by `benchmarks/cpu_host.py`): this is
the error of `cpu/host`, on one thread and on several. And ncnn's published times of other processors, where
one factor for the other runtime is taken from the other devices: this says how well data-sheet presets carry
over.
`errors.yaml`, which gives results their range, is regenerated from the first source by `error_table`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from tetrasim.hw_targets.common.presets import load_preset, with_overrides
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.lower import lower
from tetrasim.hw_targets.cpu.validation.cases import Case, mean_absolute, model_cases, op_cases, op_graph
from tetrasim.hw_targets.cpu.validation.ncnn import NcnnRow, ncnn_rows
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.ir.graph import Graph

MEASURED = Path(__file__).with_name("measured")
GATES = {"BERT block": 0.07, "GPT-2 decode": 0.12, "GEMM": 0.12, "other ops": 0.20}
FEW_THREADS = 8
ONE, SEVERAL = "one thread", "several threads"


@dataclass(frozen=True, slots=True)
class ValidationRow:
    """Error of one class: mean and median of |predicted / measured - 1|, and the tenth and ninetieth
    percentile of measured / predicted."""

    device: str
    what: str
    rows: int
    mean_error: float
    median_error: float
    low_factor: float
    high_factor: float
    source: str


@dataclass(frozen=True, slots=True)
class HostRow:
    """One case on the measured host."""

    case: Case
    measured_us: float
    predicted_us: float


def validate() -> list[ValidationRow]:
    """Every class, in a fixed order."""
    rows: list[ValidationRow] = []
    for name, members in by_threads(host_rows()).items():
        rows += [_row(f"host, {name}", group, cases, host_source()) for group, cases in _by_group(members)]
    few: Callable[[NcnnRow], bool] = lambda r: r.threads <= FEW_THREADS  # noqa: E731
    ncnn = ncnn_rows()
    for what, chosen in (
        (f"ViT-B/32 in ncnn, up to {FEW_THREADS} threads", [r for r in ncnn if few(r)]),
        (f"ViT-B/32 in ncnn, above {FEW_THREADS} threads", [r for r in ncnn if not few(r)]),
    ):
        pairs = [(r.measured_ms, r.predicted_ms) for r in chosen]
        rows.append(
            _row(
                "six processors, each left out", what, pairs, "Tencent/ncnn benchmark/README.md, BSD-3-Clause"
            )
        )
    return rows


def _row(device: str, what: str, pairs: Iterable[tuple[float, float]], source: str) -> ValidationRow:
    """`pairs` of measured and predicted."""
    both = np.array(list(pairs), dtype=np.float64)
    errors = both[:, 1] / both[:, 0] - 1
    factors = both[:, 0] / both[:, 1]
    low, high = np.percentile(factors, (10, 90))
    return ValidationRow(
        device,
        what,
        len(both),
        round(mean_absolute(errors.tolist()), 4),
        round(float(np.median(np.abs(errors))), 4),
        round(float(low), 4),
        round(float(high), 4),
        source,
    )


def by_threads(rows: Iterable[HostRow]) -> dict[str, list[HostRow]]:
    """Two classes: one thread, and several."""
    found: dict[str, list[HostRow]] = {}
    for row in rows:
        found.setdefault(ONE if row.case.threads == 1 else SEVERAL, []).append(row)
    return found


def _by_group(rows: Iterable[HostRow]) -> list[tuple[str, list[tuple[float, float]]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        found.setdefault(row.case.group, []).append((row.measured_us, row.predicted_us))
    return list(found.items())


@lru_cache(maxsize=1)
def host_rows() -> tuple[HostRow, ...]:
    """The committed measurements, predicted now."""
    config = load_preset(MEASURED / "host.yaml", "cpu/host", CpuConfig).config
    models, ops = model_cases(), op_cases()
    out = []
    for case, us in read_cases().items():
        alone = replace(case, threads=1)
        graph = models[alone] if alone in models else op_graph(ops[alone]())
        out.append(HostRow(case, us, predict_us(graph, config, case.threads)))
    return tuple(out)


def predict_us(graph: Graph, config: CpuConfig, threads: int = 1) -> float:
    """One run on so many threads."""
    return run_static(lower(graph, with_overrides(config, {"threads": threads}))).total_ps * 1e-6


def read_cases() -> dict[Case, float]:
    """Measured microseconds."""
    return {Case(r["group"], r["case"], int(r["threads"])): float(r["measured_us"]) for r in read_table()}


def read_table() -> list[dict[str, str]]:
    """Rows of `measured/host.csv`, without its comment lines."""
    lines = (MEASURED / "host.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def host_source() -> str:
    """The first comment line of the table: machine and date."""
    return (MEASURED / "host.csv").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def error_table() -> str:
    """The text of `errors.yaml`: ranges of a calibrated host by number of threads and metric."""
    lines = ["# Regenerated by `python benchmarks/cpu_host.py --errors` from measured/host.csv.", "host:"]
    metrics = {"forward": "BERT block", "prefill": "BERT block", "decode": "GPT-2 decode"}
    for name, chosen in by_threads(host_rows()).items():
        threads = [row.case.threads for row in chosen]
        lines.append(f"- least_threads: {min(threads)}")
        lines += [f"  most_threads: {max(threads)}", "  metrics:"]
        by_group = {group: _row(name, group, pairs, "") for group, pairs in _by_group(chosen)}
        for metric, group in metrics.items():
            row = by_group[group]
            # A handful of rows does not bound the error: the range spans at least the mean error both ways.
            low, high = min(row.low_factor, 1 - row.mean_error), max(row.high_factor, 1 + row.mean_error)
            source = f"{row.rows} rows of {group} on a calibrated host, {name}"
            text = f"low_factor: {low:.4f}, high_factor: {high:.4f}, source: '{source}'"
            lines.append(f"    {metric}: {{{text}}}")
    return "\n".join(lines) + "\n"
