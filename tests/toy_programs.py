"""Random small programs for the engine tests: three resources at different clocks, two parts."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tetrasim.sim.engine.program import Block, Machine, Program, Resource, Task, assemble

MACHINE = Machine(
    target="toy",
    resources=(Resource("unit", 10**9), Resource("other", 700_000_000), Resource("odd", 1_377_777_777)),
    part_names=("work", "overhead"),
    level_names=("near", "far"),
    component_names=("dynamic", "static"),
    static_power_w=(("static", 0.5),),
)


@st.composite
def programs(draw: st.DrawFn, tasks: int | None = None, release: bool | None = None) -> Program:
    """Up to 14 blocks of one or two tasks, dependencies to any earlier block, sometimes release times."""
    count = draw(st.integers(0, 14)) if tasks is None else tasks
    blocks, before = [], []
    for i in range(count):
        blocks.append(Block(tuple(draw(_tasks(j)) for j in range(draw(st.integers(0, 2))))))
        before.append(tuple(sorted(draw(st.sets(st.integers(0, i - 1), max_size=3)))) if i else ())
    program = assemble(MACHINE, blocks, before)
    if draw(st.booleans()) if release is None else release:
        times = draw(st.lists(st.integers(0, 20_000), min_size=program.tasks, max_size=program.tasks))
        program = replace(program, release_ps=np.array(times, dtype=np.int64))
    return program


@st.composite
def _tasks(draw: st.DrawFn, position: int) -> Task:
    work, overhead = draw(st.integers(0, 9)), draw(st.integers(0, 3))
    return Task(
        draw(st.sampled_from(["mac", "move"])),
        draw(st.sampled_from(["unit", "other", "odd"])),
        work + overhead,
        (("work", work), ("overhead", overhead)),
        work + overhead + draw(st.integers(0, 4)),
        (1,) if position and draw(st.booleans()) else (),
        (("near", draw(st.integers(0, 5))), ("far", draw(st.integers(0, 5)))),
        (("dynamic", draw(st.floats(0, 10))),),
        draw(st.integers(0, 9)),
    )
