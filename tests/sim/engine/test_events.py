"""Run-time arbitration equals a loop over single picoseconds; without contention it is in-order service."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_programs import MACHINE, programs

from tetrasim.sim.engine.events import SHARED, Arbitration, arbitration, run_events
from tetrasim.sim.engine.program import Block, Program, ProgramError, Resource, Task, assemble
from tetrasim.sim.engine.static import critical_path, run_static
from tetrasim.sim.engine.timeline import Cause

Row = tuple[int, int, int, int, int]


class PicosecondLoop:
    """The rules of `events.py`, one picosecond at a time. Clocks are 1 THz, so cycles are picoseconds."""

    def __init__(self, program: Program, how: Arbitration) -> None:
        n, self.kinds, self.program, self.how = program.tasks, len(program.resources), program, how
        self.n, self.on = n, program.resource.tolist()
        self.deps = [program.dep_index[slice(*program.dep_start[i : i + 2])].tolist() for i in range(n)]
        self.takes = [how.take_store[slice(*how.take_start[i : i + 2])].tolist() for i in range(n)]
        self.gives = [how.give_store[slice(*how.give_start[i : i + 2])].tolist() for i in range(n)]
        self.release = [0] * n if program.release_ps is None else program.release_ps.tolist()
        self.busy, self.latency = program.busy_cycles.tolist(), program.latency_cycles.tolist()
        self.start, self.end, self.free, self.ready = ([-1] * n for _ in range(4))
        self.cause, self.who, self.left = [0] * n, [-1] * n, list(self.busy)
        self.done, self.freed, self.room = set[int](), set[int](), how.capacity.tolist()
        self.rotation: list[list[int]] = [[] for _ in range(self.kinds)]
        self.held: list[int | None] = [None] * self.kinds  # -1: for a server, else for room in that store
        self.freed_by, self.given_by = [-1] * self.kinds, [-1] * len(self.room)

    def run(self, limit: int) -> list[Row] | None:
        """(start, end, free, cause, cause task) per task; None when some task never starts."""
        for now in range(limit):
            while self.finish(now) | any([self.serve(now, s) for s in range(self.kinds)]):
                pass
            for s in range(self.kinds):
                self.work(now, s)
        rows = list(zip(self.start, self.end, self.free, self.cause, self.who, strict=True))
        return None if min(self.start, default=0) < 0 else rows

    def finish(self, now: int) -> bool:
        """Servers freed, results done, tasks made ready at this instant."""
        freed = {i for i in range(self.n) if self.free[i] == now} - self.freed
        done = {i for i in range(self.n) if self.end[i] == now} - self.done
        self.freed |= freed
        self.done |= done
        for i in sorted(freed):
            self.freed_by[self.on[i]] = i
        for i in sorted(done):
            for store in self.gives[i]:
                self.room[store] += 1
                self.given_by[store] = i
        fresh = [
            i
            for i in range(self.n)
            if self.ready[i] < 0 and now >= self.release[i] and self.done.issuperset(self.deps[i])
        ]
        for i in fresh:
            self.ready[i] = now
        return bool(freed or done or fresh)

    def serve(self, now: int, s: int) -> bool:
        """Start the resource's ready tasks in order, until one has to wait; True when one started."""
        held, self.held[s] = self.held[s], None
        waited = (0, -1)
        if held is not None:
            waited = (Cause.RESOURCE, self.freed_by[s]) if held < 0 else (Cause.ROOM, self.given_by[held])
        mine = [i for i in range(self.n) if self.on[i] == s and self.ready[i] >= 0 and self.start[i] < 0]
        started = False
        for i in sorted(mine, key=lambda i: (self.ready[i], i)):
            served = sum(
                self.on[j] == s and self.start[j] >= 0 and j not in self.freed for j in range(self.n)
            )
            if self.how.servers[s] != SHARED and served >= self.how.servers[s]:
                self.held[s] = -1
                break
            short = [store for store in self.takes[i] if self.room[store] < self.takes[i].count(store)]
            if short:
                self.held[s] = short[0]
                break
            for store in self.takes[i]:
                self.room[store] -= 1
            self.start[i], started = now, True
            if self.ready[i] < now:
                self.cause[i], self.who[i] = waited
            elif self.release[i] < now:
                last = next(d for d in self.deps[i] if self.end[d] == now)
                self.cause[i], self.who[i] = Cause.DEPENDENCY, last
            if self.how.servers[s] != SHARED or self.busy[i] == 0:
                self.free[i], self.end[i] = now + self.busy[i], now + self.latency[i]
            else:
                self.rotation[s].append(i)
        return started

    def work(self, now: int, s: int) -> None:
        """One picosecond of work for the member of a rotation whose turn it is."""
        if self.rotation[s]:
            i = self.rotation[s].pop(0)
            self.left[i] -= 1
            if self.left[i]:
                self.rotation[s].append(i)
            else:
                self.free[i], self.end[i] = now + 1, now + 1 + self.latency[i] - self.busy[i]


@st.composite
def arbitrated(draw: st.DrawFn) -> tuple[Program, Arbitration]:
    program = draw(programs())
    fast = tuple(Resource(r.name, 10**12) for r in MACHINE.resources)
    program = replace(program, resources=fast)
    if program.release_ps is not None:
        program = replace(program, release_ps=program.release_ps // 500)
    servers = {r.name: draw(st.integers(0, 3)) for r in MACHINE.resources}
    tasks = st.lists(st.integers(0, program.tasks - 1), max_size=5) if program.tasks else st.just([])
    stores = tuple(
        (draw(st.integers(1, 3)), tuple(draw(tasks)), tuple(draw(tasks)))
        for _ in range(draw(st.integers(0, 2)))
    )
    return program, arbitration(program, servers, stores)


@given(arbitrated())
def test_equals_the_picosecond_loop(case: tuple[Program, Arbitration]) -> None:
    program, how = case
    expected = PicosecondLoop(program, how).run(limit=600)
    if expected is None:
        with pytest.raises(ProgramError, match="deadlock"):
            run_events(program, how)
        return
    line = run_events(program, how)
    columns = (line.start_ps, line.end_ps, line.free_ps, line.cause, line.cause_task)
    assert [tuple(int(c[i]) for c in columns) for i in range(program.tasks)] == expected
    assert int(critical_path(line).advance_ps.sum()) == line.total_ps


@given(programs())
def test_one_task_at_a_time_needs_no_arbitration(program: Program) -> None:
    """A chain has nothing to arbitrate: both engines agree."""
    chain = _chain(program)
    assert (run_events(chain, arbitration(chain)).end_ps == run_static(chain).end_ps).all()


def _chain(program: Program) -> Program:
    import numpy as np

    n = program.tasks
    start = np.maximum(np.arange(n + 1) - 1, 0)
    return replace(
        program, dep_start=start.astype(np.int64), dep_index=np.arange(max(n - 1, 0), dtype=np.int32)
    )


def test_a_full_fifo_holds_its_producer() -> None:
    """Three items through a one-slot FIFO: the producer waits for each consumer to finish."""
    make = Task("make", "unit", 2, (("work", 2),))
    use = Task("use", "other", 7, (("work", 7),))
    blocks = [Block((t,)) for t in (make, use, make, use, make, use)]
    program = assemble(MACHINE, blocks, [(), (0,), (), (2,), (), (4,)])
    program = replace(program, resources=tuple(Resource(r.name, 10**12) for r in MACHINE.resources))
    line = run_events(program, arbitration(program, stores=((1, (0, 2, 4), (1, 3, 5)),)))
    assert line.start_ps.tolist() == [0, 2, 9, 11, 18, 20]
    assert [Cause(c) for c in line.cause[[2, 4]]] == [Cause.ROOM, Cause.ROOM]


def test_two_transfers_share_a_bus() -> None:
    task = Task("move", "unit", 10, (("work", 10),))
    program = assemble(MACHINE, [Block((task,)), Block((task,))], [(), ()])
    program = replace(program, resources=tuple(Resource(r.name, 10**12) for r in MACHINE.resources))
    line = run_events(program, arbitration(program, {"unit": SHARED}))
    assert line.end_ps.tolist() == [19, 20]


def test_a_deadlock_names_the_task() -> None:
    task = Task("make", "unit", 1, (("work", 1),))
    program = assemble(MACHINE, [Block((task,)), Block((task,))], [(), ()])
    with pytest.raises(ProgramError, match="task 1 on unit waits for room in store 0"):
        run_events(program, arbitration(program, stores=((1, (0, 1), ()),)))
