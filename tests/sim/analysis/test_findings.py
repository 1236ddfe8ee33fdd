"""Replays are exact re-simulations, and findings take their gain from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_programs import MACHINE, programs

from tetrasim.sim.analysis.phases import phase_result
from tetrasim.sim.analysis.replay import replay_all, replay_part, replay_resource
from tetrasim.sim.analysis.rules import Evidence, PhaseEvidence, findings, spenders
from tetrasim.sim.engine.program import Block, Program, Task, assemble
from tetrasim.sim.engine.runs import total_runs
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.ir.family import constant_family
from tetrasim.sim.ir.graph import Graph, Node
from tetrasim.sim.metric import Metric
from tetrasim.sim.result import MemoryResult


def chain(*tasks: tuple[str, str, int]) -> Program:
    """Tasks (resource, part, cycles), each after the one before."""
    blocks = [Block((Task("t", unit, cycles, ((part, cycles),)),)) for unit, part, cycles in tasks]
    return assemble(MACHINE, blocks, [(i - 1,) if i else () for i in range(len(tasks))])


def evidence(program: Program, memory: tuple[MemoryResult, ...] = ()) -> Evidence:
    totals = total_runs(iter([program]), 1, program.tasks)
    latency = Metric(int(totals.total_ps.sum()) / 1000, "ns")
    phase = PhaseEvidence(phase_result("forward", totals, latency, latency, ()), program)
    told = {"work": "work less (--set work=1)"}
    return Evidence((phase,), memory, told, {"work": "MatMul 100 % ('up')"})


def test_halving_a_part_saves_half_of_it() -> None:
    program = chain(("unit", "work", 60), ("unit", "overhead", 40))
    assert replay_part(program, "work", 0.5) == 70_000
    assert replay_part(program, "overhead", 0.0) == 60_000
    found = findings(evidence(program))
    assert [f.title for f in found[:2]] == ["work is 60 % of the time", "overhead is 40 % of the time"]
    assert [f.gain for f in found[:2]] == pytest.approx([0.3, 0.2])


def test_a_hidden_part_saves_nothing() -> None:
    """Two parallel tasks: halving the longer one saves only down to the shorter one."""
    work = Task("t", "unit", 100, (("work", 100),))
    other = Task("t", "other", 56, (("overhead", 56),))  # 700 MHz: 80 ns
    program = assemble(MACHINE, [Block((work,)), Block((other,))], [(), ()])
    assert replay_part(program, "overhead", 0.5) == 100_000
    assert replay_part(program, "work", 0.5) == 80_000
    assert replay_resource(program, "unit", 0.5) == 80_000


@given(programs(release=False))
def test_a_replay_at_factor_one_changes_nothing(program: Program) -> None:
    total = run_static(program).total_ps
    assert replay_part(program, "work", 1.0) == replay_resource(program, "unit", 1.0) == total
    assert replay_all(program, 1.0) == total


@given(programs(release=False), st.floats(0.0, 1.0))
def test_faster_is_never_slower(program: Program, factor: float) -> None:
    total = run_static(program).total_ps
    for resource in MACHINE.resources:
        assert replay_resource(program, resource.name, factor) <= total
    for part in MACHINE.part_names:
        assert replay_part(program, part, factor) <= total
    assert replay_all(program, factor) <= total


def test_units_that_take_turns_are_pointed_out() -> None:
    program = chain(("unit", "work", 50), ("odd", "overhead", 69), ("unit", "work", 20))
    titles = [f.title for f in findings(evidence(program))]
    assert "unit and odd take turns" in titles


def test_memory_rules() -> None:
    program = chain(("unit", "work", 5))
    full = MemoryResult("HBM", 1000, 300, 650, 0, True)
    titles = [f.title for f in findings(evidence(program, (full,)))]
    assert "HBM is 95 % full" in titles
    assert "the KV cache is larger than the weights" in titles
    roomy = MemoryResult("HBM", 1000, 300, 50, 0, True)
    assert not any("HBM" in f.title for f in findings(evidence(program, (roomy,))))


def test_an_idle_program_has_no_findings() -> None:
    empty = assemble(MACHINE, [Block()], [()])
    assert findings(evidence(empty)) == ()


def test_the_target_advises_and_the_ops_are_named() -> None:
    program = chain(("unit", "work", 60), ("unit", "overhead", 40))
    first, second = findings(evidence(program))[:2]
    assert first.advice == "work less (--set work=1); spent on MatMul 100 % ('up')"
    assert second.advice == "no setting of this target shortens it: give it less to do"


def test_spenders_rank_the_kinds_of_op() -> None:
    program = chain(("unit", "work", 30), ("unit", "work", 50), ("unit", "work", 20), ("unit", "overhead", 1))
    names = (("a", "MatMul"), ("b", "MatMul"), ("c", "Add"), ("d", "Add"))
    nodes = tuple(Node(name, op, (), ()) for name, op in names)
    family = constant_family(Graph("g", nodes, (), ()))
    totals = total_runs(iter([program]), 1, 4)
    found = spenders([(family, totals)])
    assert found["work"] == "MatMul 80 % (most in 'b'), Add 20 % ('c')"
    assert found["overhead"] == "Add 100 % ('d')"


def test_gains_are_sorted() -> None:
    rng = np.random.default_rng(0)
    tasks = [
        (("unit", "other")[i % 2], ("work", "overhead")[i % 2], int(rng.integers(1, 99))) for i in range(9)
    ]
    gains = [f.gain or 0.0 for f in findings(evidence(chain(*tasks)))]
    assert gains == sorted(gains, reverse=True)
