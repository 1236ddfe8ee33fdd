"""One wave of a GEMM on one SM, tile by tile: what the closed form in gemm.py charges, simulated.

`resident` blocks share an SM. Each block is a chain of steps; a step occupies the tensor cores for
`step_cycles`, and the next step of the same block cannot start before its operands have arrived,
`load_cycles` after the last one started. Blocks take turns.
"""

from __future__ import annotations

from tetrasim.sim.engine.program import Block, Machine, Program, Resource, Task, assemble

CLOCK_HZ = 1_000_000_000


def wave_program(resident: int, steps: int, step_cycles: int, load_cycles: int) -> Program:
    """The program of `resident` blocks of `steps` steps, one task per step."""
    machine = Machine("gpu wave", (Resource("tensor cores", CLOCK_HZ, "SM"),), ("compute",), (), ())
    task = Task(
        "step",
        "tensor cores",
        step_cycles,
        (("compute", step_cycles),),
        latency_cycles=max(step_cycles, load_cycles),
    )
    blocks = [Block((task,))] * (resident * steps)
    before = [(i - resident,) if i >= resident else () for i in range(len(blocks))]
    return assemble(machine, blocks, before)


def wave_cycles(resident: int, steps: int, step_cycles: int, load_cycles: int) -> int:
    """Closed form of the same: steady state, then the drain of the last step of the last block."""
    period = max(resident * step_cycles, load_cycles)
    return (steps - 1) * period + (resident - 1) * step_cycles + max(step_cycles, load_cycles)
