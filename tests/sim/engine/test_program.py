"""Blocks join along the graph's edges, and a malformed program is refused by task."""

from dataclasses import replace

import numpy as np
import pytest

from tetrasim.sim.engine.program import Block, Machine, Program, ProgramError, Resource, Task, assemble

MACHINE = Machine(
    "toy", (Resource("core", 10**9), Resource("dma", 5 * 10**8)), ("math", "load"), ("dram",), ("alu",)
)


def task(resource: str, cycles: int, part: str, after: tuple[int, ...] = ()) -> Task:
    return Task("step", resource, cycles, ((part, cycles),), after=after, level_bytes=(("dram", 64),))


def program() -> Program:
    load_then_math = Block((task("dma", 5, "load"), task("core", 7, "math", after=(1,))))
    return assemble(MACHINE, [load_then_math, Block(), Block((task("core", 2, "math"),))], [(), (0,), (1,)])


def test_an_empty_block_passes_its_inputs_through() -> None:
    text = program().to_text()
    assert text == (
        "program toy tasks=3\n"
        "  0 step on dma node=0 busy=5 latency=5 after[] load=5\n"
        "  1 step on core node=0 busy=7 latency=7 after[0] math=7\n"
        "  2 step on core node=2 busy=2 latency=2 after[1] math=2\n"
    )


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("busy_cycles", [5, 6, 2], "task 1 has parts that do not sum"),
        ("latency_cycles", [5, 6, 2], "task 1 has a latency below its busy time"),
        ("resource", [0, 0, 9], "task 2 names an unknown resource"),
        ("dep_index", [1, 1], "task 1 depends on itself or a later task"),
    ],
)
def test_malformed_programs_are_refused(column: str, value: list[int], says: str) -> None:
    good = program()
    bad = replace(good, **{column: np.array(value, dtype=getattr(good, column).dtype)})
    with pytest.raises(ProgramError, match=says):
        bad.verify()
