"""The in-order kernel equals an obvious reference; the critical path sums to the total exactly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toy_programs import MACHINE, programs

from tetrasim.sim.engine.program import Block, Machine, Program, Resource, Task, assemble
from tetrasim.sim.engine.runs import total_runs
from tetrasim.sim.engine.static import critical_path, durations_ps, run_static
from tetrasim.sim.engine.timeline import Cause
from tetrasim.units import cycles_to_ps, cycles_to_ps_array


def slow_static(program: Program) -> list[tuple[int, int, int, Cause, int]]:
    """(start, end, free, cause, cause task) of every task, one at a time, in Python integers."""
    rows: list[tuple[int, int, int, Cause, int]] = []
    for i in range(program.tasks):
        clock = program.resources[program.resource[i]].clock_hz
        start, cause, who = 0, Cause.START, -1
        if program.release_ps is not None:
            start = int(program.release_ps[i])
        for d in program.dep_index[program.dep_start[i] : program.dep_start[i + 1]]:
            if rows[d][1] > start:
                start, cause, who = rows[d][1], Cause.DEPENDENCY, int(d)
        before = [j for j in range(i) if program.resource[j] == program.resource[i]]
        if before and rows[before[-1]][2] > start:  # the task served before this one frees the resource last
            start, cause, who = rows[before[-1]][2], Cause.RESOURCE, before[-1]
        busy = cycles_to_ps(int(program.busy_cycles[i]), clock)
        latency = cycles_to_ps(int(program.latency_cycles[i]), clock)
        rows.append((start, start + latency, start + busy, cause, who))
    return rows


@given(programs())
def test_equals_the_slow_reference(program: Program) -> None:
    line = run_static(program)
    columns = (line.start_ps, line.end_ps, line.free_ps, line.cause, line.cause_task)
    fast = [tuple(int(c[i]) for c in columns) for i in range(program.tasks)]
    assert fast == slow_static(program)


@given(programs())
def test_critical_path_is_contiguous_and_sums_to_the_total(program: Program) -> None:
    line = run_static(program)
    path = critical_path(line)
    assert int(path.advance_ps.sum()) == line.total_ps
    assert (path.advance_ps >= 0).all()
    if len(path.tasks):
        assert line.cause[path.tasks[0]] == Cause.START
        assert (line.cause_task[path.tasks[1:]] == path.tasks[:-1]).all()


def test_a_pipelined_unit_frees_before_its_result_is_ready() -> None:
    """Two tasks on one unit, the second independent: it starts after busy, not after latency."""
    first = Task("mac", "unit", 4, (("work", 4),), latency_cycles=10)
    second = Task("mac", "unit", 3, (("work", 3),))
    waits = Task("mac", "other", 1, (("work", 1),))
    program = assemble(MACHINE, [Block((first,)), Block((second,)), Block((waits,))], [(), (), (0,)])
    line = run_static(program)
    assert line.start_ps.tolist() == [0, 4000, 10_000]
    assert line.cause.tolist() == [Cause.START, Cause.RESOURCE, Cause.DEPENDENCY]


@given(
    st.lists(st.integers(0, 10**8), max_size=20),
    st.one_of(st.integers(1, 10**11), st.sampled_from([10**9, 1_377_777_777, 2**33 + 1, 3, 10**12])),
)
def test_array_conversion_is_the_integer_formula(cycles: list[int], clock_hz: int) -> None:
    fast = cycles_to_ps_array(np.array(cycles, dtype=np.int64), clock_hz) if clock_hz > 10**5 else None
    if fast is not None:
        assert fast.tolist() == [cycles_to_ps(c, clock_hz) for c in cycles]


def test_durations_round_once_per_task() -> None:
    program = assemble(MACHINE, [Block((Task("mac", "odd", 7, (("work", 7),)),))], [()])
    busy, latency = durations_ps(program)
    assert busy.tolist() == latency.tolist() == [cycles_to_ps(7, 1_377_777_777)]


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=8),
    st.one_of(st.integers(10**5, 10**11), st.sampled_from([10**9, 1_377_777_777, 2**32 - 5, 2**33 + 1])),
)
def test_rows_of_durations_are_the_integer_formula(parts: list[tuple[int, int]], clock_hz: int) -> None:
    """Of every clock: the kernel takes those below 2**32 Hz, or that reduce below it, and says so."""
    machine = Machine("toy", (Resource("unit", clock_hz),), ("a", "b"), (), ())
    tasks = [Task("t", "unit", a + b, (("a", a), ("b", b)), latency_cycles=a + b + 1) for a, b in parts]
    totals = total_runs(iter([assemble(machine, [Block((t,)) for t in tasks], [()] * len(tasks))]), 1, 8)
    ends = [(cycles_to_ps(a, clock_hz), cycles_to_ps(a + b, clock_hz)) for a, b in parts]
    assert totals.node_busy_ps[: len(parts)].tolist() == [end for _, end in ends]
    assert totals.node_part_ps[: len(parts), :2].tolist() == [[a, b - a] for a, b in ends]
    tasks_end = sum(end for _, end in ends[:-1]) + cycles_to_ps(sum(parts[-1]) + 1, clock_hz)
    assert totals.total_ps[0] >= tasks_end
