"""From graphs to a Result on a toy target: exact sums, exact generation, evidence, determinism."""

from dataclasses import replace

import pytest
from toy_target import lower, toy_model, toy_setup

from tetrasim.errors import UserError
from tetrasim.flow.phases import capacity_of, lowered_phases, run_phases
from tetrasim.flow.result_tables import build_result, inverted, summed
from tetrasim.flow.setup import Setup, set_up
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.metric import Basis, Metric
from tetrasim.sim.result import Result
from tetrasim.sim.workload import Workload

WORK = Workload(batch=1, prompt=4, generate=9)


def result_of(setup: Setup, workload: Workload = WORK) -> Result:
    model = toy_model()
    phases = lowered_phases(model, setup, workload)
    runs = run_phases(model, setup, workload)
    capacity = capacity_of(phases, setup)
    return build_result(model, setup, workload, capacity, runs, numerics=True, command="toy")


def test_every_step_runs_at_its_own_context() -> None:
    setup = toy_setup()
    decode = toy_model().phases[1].family
    expected = [
        run_static(lower(decode.at(context), setup.config)).total_ps / 1000  # type: ignore[arg-type]
        for context in range(4, 12)
    ]
    result = result_of(setup)
    assert list(result.phases[1].run_ns) == expected
    assert expected == sorted(expected)
    assert expected[0] < expected[-1]


def test_decompositions_sum_to_the_total() -> None:
    result = result_of(toy_setup())
    for phase in result.phases:
        assert sum(s.amount for s in phase.time_shares) == phase.latency.value * 1000
        assert sum(s.amount for s in phase.energy_shares) == pytest.approx(phase.energy.value, rel=1e-12)
        rows = [op for op in result.ops if op.phase == phase.name]
        assert sum(op.time_ns for op in rows) == pytest.approx(phase.latency.value, rel=1e-12)
        assert sum(op.macs for op in rows) == phase.macs
        assert sum(op.bytes for op in rows) == {s.name: s.amount for s in phase.bytes_moved}["memory"]
    assert result.latency.value == sum(p.latency.value for p in result.phases)


def test_arithmetic_of_a_generation_is_summed_over_contexts() -> None:
    """score multiplies (past + 1) x 8 by 8 x 1 at past = 4 … 11."""
    row = next(op for op in result_of(toy_setup()).ops if op.phase == "decode" and op.node == "score")
    assert row.macs == sum((past + 1) * 8 for past in range(4, 12))
    project = next(op for op in result_of(toy_setup()).ops if op.phase == "decode" and op.node == "project")
    assert (project.macs, project.module, project.onnx) == (8 * 64, "layer.q", ("MatMul_0",))


def test_evidence_reaches_the_metrics() -> None:
    result = result_of(toy_setup())
    assert result.latency.low == pytest.approx(0.9 * result.latency.value)
    assert result.latency.basis is Basis.CALIBRATED
    assert "latency of decode: 3 rows of decode" in result.validation
    unknown = result_of(toy_setup(validated=False))
    assert (unknown.latency.low, unknown.latency.basis) == (None, Basis.ANALYTIC)
    assert any("not validated" in w for w in unknown.warnings)
    assert unknown.validation == ()


def test_generation_rates() -> None:
    result = result_of(toy_setup())
    rates = result.generation
    assert rates is not None
    assert rates.mean_token is not None
    assert rates.last_token is not None
    assert rates.first_token == result.phases[0].latency
    assert rates.mean_token.value == pytest.approx(sum(result.phases[1].run_ns) / 8)
    assert rates.last_token.value == pytest.approx(result.phases[1].run_ns[-1])
    assert rates.tokens_per_s.value == pytest.approx(9e9 / result.latency.value)
    assert rates.energy_per_token.value == pytest.approx(result.energy.value * 1e-12 / 9)
    low, value, high = rates.tokens_per_s.low, rates.tokens_per_s.value, rates.tokens_per_s.high
    assert low is not None
    assert high is not None
    assert low < value < high


def test_one_generated_token_is_the_prefill_alone() -> None:
    result = result_of(toy_setup(), replace(WORK, generate=1))
    assert [p.name for p in result.phases] == ["prefill"]
    assert result.generation is not None
    assert result.generation.mean_token is None


def test_the_same_inputs_give_the_same_result() -> None:
    assert result_of(toy_setup()) == result_of(toy_setup())


def test_memory_is_counted_at_the_longest_context() -> None:
    (memory,) = result_of(toy_setup()).memory
    assert memory.state_bytes == (11 + 1) * 8 * 4  # the last step starts with 11 cached keys
    assert memory.first_state_bytes == (WORK.prompt + 1) * 8 * 4  # where the curve of the report begins
    assert memory.weights_bytes == 64 * 4


def test_skipped_numerics_say_why() -> None:
    assert not result_of(toy_setup()).numerics.checked
    assert "no ONNX file" in result_of(toy_setup()).numerics.note


def test_area_and_peaks() -> None:
    result = result_of(toy_setup())
    assert result.area is not None
    assert (result.area.value, result.area.unit) == (2.5, "mm2")
    for phase in result.phases:
        assert 0 < phase.peak_fraction <= 1
        assert phase.peak_name in {p.name for p in result.peaks}


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown preset") as caught:
        set_up("gpu/t5")
    assert "gpu/t4" in caught.value.hint
    with pytest.raises(UserError, match="unknown parameter"):
        set_up("gpu/t4", {"no.such.path": 3})


def test_a_sum_needs_evidence_for_every_part() -> None:
    known = Metric(2.0, "ns", 1.0, 3.0, Basis.CALIBRATED, "rows")
    assert summed([known, known]) == Metric(4.0, "ns", 2.0, 6.0, Basis.CALIBRATED, "rows")
    mixed = summed([known, Metric(1.0, "ns")])
    assert (mixed.low, mixed.high, mixed.basis) == (None, None, Basis.ANALYTIC)
    assert inverted(known, 6.0, "1/s") == Metric(3.0, "1/s", 2.0, 6.0, Basis.CALIBRATED, "rows")
