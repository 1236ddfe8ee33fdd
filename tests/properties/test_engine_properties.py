"""What must hold on any machine: faster is not slower, twice the work is twice the time, nothing is lost."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from toy_programs import MACHINE, programs
from toy_target import ToyConfig, lower, step_graph

from tetrasim.sim.engine.program import Block, Program, Resource, Task, assemble
from tetrasim.sim.engine.runs import total_runs
from tetrasim.sim.engine.static import run_static


@given(programs(), st.integers(0, 2), st.integers(2, 5))
def test_a_faster_clock_is_never_slower(program: Program, which: int, factor: int) -> None:
    """Whole multiples, so that rounding to picoseconds cannot interfere."""
    slow = list(replace(r, clock_hz=10**9) for r in program.resources)
    fast = [replace(r, clock_hz=r.clock_hz * (factor if i == which else 1)) for i, r in enumerate(slow)]
    before = run_static(replace(program, resources=tuple(slow))).total_ps
    after = run_static(replace(program, resources=tuple(fast))).total_ps
    assert after <= before


@given(st.integers(1, 40), st.integers(1, 64), st.integers(1, 64))
def test_more_bandwidth_is_never_slower_on_a_target(past: int, narrow: int, more: int) -> None:
    graph = step_graph(past)
    before = run_static(lower(graph, ToyConfig(bytes_per_cycle=narrow))).total_ps
    after = run_static(lower(graph, ToyConfig(bytes_per_cycle=narrow + more))).total_ps
    assert after <= before


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2)), min_size=1, max_size=20))
def test_a_chain_twice_as_long_takes_exactly_twice_the_time(tasks: list[tuple[int, int]]) -> None:
    def total(chain: list[tuple[int, int]]) -> int:
        blocks = [Block((Task("t", MACHINE.resources[r].name, c, (("work", c),)),)) for c, r in chain]
        return run_static(
            assemble(MACHINE, blocks, [(i - 1,) if i else () for i in range(len(chain))])
        ).total_ps

    assert total(tasks * 2) == 2 * total(tasks)


@given(programs())
def test_the_total_lies_between_the_busiest_resource_and_the_sum(program: Program) -> None:
    program = replace(program, release_ps=None)
    totals = total_runs(iter([program]), 1, 14)
    line = run_static(program)
    assert totals.busy_ps[0].max() <= line.total_ps <= int((line.end_ps - line.start_ps).sum())


@given(programs())
def test_energy_and_bytes_are_those_of_the_tasks(program: Program) -> None:
    totals = total_runs(iter([program]), 1, 14)
    assert (totals.level_bytes[0] == program.level_bytes.sum(axis=0)).all()
    dynamic = float(totals.energy_pj[0, 0])
    assert abs(dynamic - float(program.energy_pj[:, 0].sum())) <= 1e-9 * (1 + dynamic)
    assert totals.macs[0] == program.macs.sum()


def test_a_task_is_not_ready_one_picosecond_early() -> None:
    """The dependent starts at the end of the work: at that picosecond, not before."""
    task = Task("t", "unit", 5, (("work", 5),), latency_cycles=8)
    program = assemble(MACHINE, [Block((task,)), Block((task,))], [(), (0,)])
    program = replace(program, resources=(Resource("unit", 10**12), *MACHINE.resources[1:]))
    line = run_static(program)
    assert line.start_ps.tolist() == [0, 8]
    early = replace(program, latency_cycles=program.latency_cycles - 1)
    assert run_static(early).start_ps.tolist() == [0, 7]
