"""On every preset of every target: what the ops of a run cost sums to what the run costs, and no op and no
kind of op computes faster than the device."""

from collections import defaultdict

import pytest
from graphs import feed_forward

from tetrasim.errors import CapacityError
from tetrasim.hw_targets.registry import find_preset, preset_names
from tetrasim.sim.analysis.ops import op_results
from tetrasim.sim.engine.runs import simulate_runs
from tetrasim.sim.engine.timeline import RunTotals
from tetrasim.sim.ir.family import constant_family
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.passes.precision import with_precision
from tetrasim.sim.result import OpResult

SIZES = {"small": (4, 16), "tall": (64, 32)}
LARGE = (2048, 512)  # large enough that kernels come close to the peak


def run(preset: str, graph: Graph) -> tuple[RunTotals, tuple[OpResult, ...], float]:
    """Totals, rows per op, and the peak in operations per second."""
    target, found = find_preset(preset)
    config = found.config
    family = constant_family(with_precision(graph, target.precision(config)))
    try:
        target.capacity(family.base, config)
        if target.simulate_runs is not None:
            totals = target.simulate_runs(family, (0,), config)
        else:
            totals = simulate_runs(lambda g: target.lower(g, config), family, (0,))
    except CapacityError as refusal:
        pytest.skip(f"{preset}: {refusal}")
    rows = op_results("forward", family, (0,), totals)
    return totals, rows, 2 * target.peaks(config).macs_per_s


def check(preset: str, graph: Graph) -> None:
    totals, rows, peak = run(preset, graph)
    assert sum(round(r.time_ns * 1000) for r in rows) == totals.total_ps.sum()
    assert sum(r.macs for r in rows) == totals.macs.sum() > 0
    assert sum(r.bytes for r in rows) == totals.level_bytes[:, -1].sum()
    assert sum(r.energy_pj for r in rows) == pytest.approx(totals.energy_pj.sum())
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        assert min(row.time_ns, row.busy_ns, row.bytes, row.energy_pj) >= 0, row
        if row.macs:
            assert row.busy_ns > 0, row
            assert 2e9 * row.macs / row.busy_ns <= 1.001 * peak, row
        kinds[row.op][0] += row.macs
        kinds[row.op][1] += row.busy_ns
    for kind, (macs, busy_ns) in kinds.items():
        assert 2e9 * macs <= 1.001 * peak * busy_ns, kind


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preset", preset_names())
def test_ops_sum_to_the_run(preset: str, size: str) -> None:
    check(preset, feed_forward(*SIZES[size], layers=2))


@pytest.mark.parametrize("preset", [name for name in preset_names() if name.startswith(("gpu/", "cpu/"))])
def test_no_op_of_a_large_run_is_above_the_peak(preset: str) -> None:
    check(preset, feed_forward(*LARGE))


@pytest.mark.parametrize("preset", preset_names())
def test_every_op_that_does_something_has_a_share(preset: str) -> None:
    """A sum or an activation that is fused into a product keeps its time, and the product keeps its own."""
    _, rows, _ = run(preset, feed_forward(*SIZES["tall"]))
    busy = {row.node: row.busy_ns for row in rows}
    assert all(busy[f"n{i}"] > 0 for i in range(8)), busy
