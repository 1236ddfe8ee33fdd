"""Stacked runs equal runs one by one, bit for bit, and their decompositions sum exactly."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_programs import programs

from tetrasim.sim.engine.program import PIPELINE_PART, Program, ProgramError, Sharing, running_shares
from tetrasim.sim.engine.runs import total_runs
from tetrasim.sim.engine.static import critical_path, run_static
from tetrasim.sim.engine.timeline import RunTotals

NODES = 14


def one_by_one(runs: list[Program]) -> list[RunTotals]:
    return [total_runs(iter([program]), 1, NODES) for program in runs]


@st.composite
def generations(draw: st.DrawFn) -> list[Program]:
    """A few programs: the same structure with other durations, with a stranger in between now and then."""
    base = draw(programs(release=False))
    runs = []
    for step in range(draw(st.integers(1, 5))):
        scale = 1 + step
        runs.append(
            replace(
                base,
                busy_cycles=base.busy_cycles * scale,
                latency_cycles=base.latency_cycles * scale + step,
                part_cycles=base.part_cycles * scale,
                energy_pj=base.energy_pj * (0.1 * scale),
            )
        )
        if draw(st.booleans()):
            runs.append(draw(programs()))
    return runs


@given(generations())
def test_stacked_equals_one_by_one(runs: list[Program]) -> None:
    together, alone = total_runs(iter(runs), len(runs), NODES), one_by_one(runs)
    for field in fields(RunTotals):
        value = getattr(together, field.name)
        parts = [getattr(a, field.name) for a in alone]
        if field.name in ("total_ps", "part_ps", "energy_pj", "level_bytes", "busy_ps", "macs", "tasks"):
            assert value.tobytes() == np.concatenate(parts).tobytes(), field.name
        elif field.name.startswith("node_") and field.name != "node_energy_pj":
            assert (value == sum(parts)).all(), field.name
    assert together.outside_ps == sum(a.outside_ps for a in alone)
    np.testing.assert_allclose(together.node_energy_pj, sum(a.node_energy_pj for a in alone), rtol=1e-12)


@given(generations())
def test_decompositions_sum_to_the_total(runs: list[Program]) -> None:
    totals = total_runs(iter(runs), len(runs), NODES)
    assert (totals.part_ps.sum(axis=1) == totals.total_ps).all()
    assert totals.node_ps.sum() + totals.outside_ps == totals.total_ps.sum()
    assert (totals.part_ps >= 0).all()
    assert totals.node_busy_ps.sum() == totals.busy_ps.sum() == totals.node_part_ps.sum()


@given(programs(release=False))
def test_totals_agree_with_the_timeline(program: Program) -> None:
    totals, line = total_runs(iter([program]), 1, NODES), run_static(program)
    path = critical_path(line)
    assert totals.total_ps.tolist() == [line.total_ps]
    by_node = np.zeros(NODES, np.int64)
    np.add.at(by_node, program.node[path.tasks], path.advance_ps)
    assert (by_node == totals.node_ps).all()
    busy = (line.free_ps - line.start_ps)[path.tasks]
    assert (
        totals.part_ps[0, totals.part_names.index(PIPELINE_PART)]
        == np.maximum(path.advance_ps - busy, 0).sum()
    )


@st.composite
def shared(draw: st.DrawFn) -> tuple[Program, list[list[int]]]:
    """A program some of whose nodes run in the tasks of another one, and the nodes that share each."""
    program = draw(programs(release=False))
    groups: list[list[int]] = [[] for _ in range(NODES)]
    for host in draw(st.sets(st.integers(0, NODES - 1), max_size=4)):
        groups[host] = draw(st.lists(st.integers(0, NODES - 1), min_size=1, max_size=4, unique=True))
    members = [n for group in groups for n in group]
    start = np.cumsum([0, *map(len, groups)]).astype(np.int64)
    weights = draw(st.lists(st.floats(0, 1e6), min_size=4 * len(members), max_size=4 * len(members)))
    table = np.array(weights).reshape(4, len(members))
    edges = np.stack([running_shares(row, start) for row in table])
    return replace(program, sharing=Sharing(start, np.array(members, np.int32), edges)), groups


@given(shared())
def test_shares_sum_to_what_the_host_costs(case: tuple[Program, list[list[int]]]) -> None:
    program, groups = case
    program.verify()
    alone = total_runs(iter([replace(program, sharing=None)]), 1, NODES)
    totals = total_runs(iter([program]), 1, NODES)
    for name in ("node_ps", "node_busy_ps", "node_bytes", "node_macs", "node_part_ps"):
        before, after = getattr(alone, name), getattr(totals, name)
        assert (after >= 0).all()
        assert (before.sum(axis=0) == after.sum(axis=0)).all(), name
        keeps = [n for n in range(NODES) if not groups[n] and not any(n in g for g in groups)]
        assert (before[keeps] == after[keeps]).all(), name
    assert totals.node_energy_pj.sum() == pytest.approx(alone.node_energy_pj.sum())
    assert totals.part_ps.tobytes() == alone.part_ps.tobytes()


def test_shares_that_are_not_parts_of_one_are_refused() -> None:
    start = np.array([0, 2], np.int64)
    half = Sharing(start, np.array([0, 0], np.int32), np.full((4, 2), 0.5))
    with pytest.raises(ProgramError, match="node 0 are not parts of one"):
        replace(_single(busy=5), sharing=half).verify()


def test_static_energy_is_power_times_time() -> None:
    program = _single(busy=5)
    totals = total_runs(iter([program]), 1, 1)
    assert totals.energy_pj.tolist() == [[2.0, 0.5 * 5000]]  # 0.5 W over 5 ns is 2500 pJ


def test_no_run_and_foreign_machines_are_refused() -> None:
    with pytest.raises(ProgramError, match="without a run"):
        total_runs(iter([]), 0, 1)
    program = _single(busy=5)
    with pytest.raises(ProgramError, match="different machines"):
        total_runs(iter([program, replace(program, part_names=("work", "other"))]), 2, 1)


def _single(busy: int) -> Program:
    from toy_programs import MACHINE

    from tetrasim.sim.engine.program import Block, Task, assemble

    task = Task("mac", "unit", busy, (("work", busy),), energy_pj=(("dynamic", 2.0),))
    return assemble(MACHINE, [Block((task,))], [()])
