"""Busy and waiting time of every resource sum to the total, and each gap names what was waited for."""

from dataclasses import replace

from hypothesis import given
from toy_programs import MACHINE, programs

from tetrasim.sim.analysis.stalls import RELEASE, TAIL, stalls
from tetrasim.sim.engine.program import Block, Program, Task, assemble
from tetrasim.sim.engine.static import run_static


@given(programs())
def test_rows_sum_to_the_total(program: Program) -> None:
    program = replace(program, latency_cycles=program.busy_cycles)
    line = run_static(program)
    for row in stalls(program, line):
        assert row.busy_ps + sum(ps for _, ps in row.waits) == line.total_ps
        assert all(ps > 0 for _, ps in row.waits)


def test_a_gap_names_the_resource_it_waited_for() -> None:
    """unit 3 ns, then odd (1.377 GHz) 7 cycles, then unit again: unit waits for odd."""
    tasks = [Task("t", r, c, (("work", c),)) for r, c in (("unit", 3), ("odd", 7), ("unit", 2))]
    program = assemble(MACHINE, [Block((t,)) for t in tasks], [(), (0,), (1,)])
    unit, other, odd = stalls(program, run_static(program))
    assert unit.waits == (("waiting for odd", 5081),)
    assert other.waits == ((TAIL, 10_081),)
    assert odd.waits == (("waiting for unit", 3000), (TAIL, 2000))
    assert RELEASE not in dict(odd.waits)
