"""HBM-PIM kernels: what one launch does on a pseudo channel, as Samsung's simulator schedules it.

A launch enters PIM mode (park all banks, SB to HAB, program the CRF, HAB to PIM), runs, leaves again, and
then the host reads results from the banks in single-bank mode. ENTER and LEAVE stand for these sequences;
their lengths are measured on command logs (the S cases). Inside, for every output group: input tiles of 128
values into GRF_A, 64 MAC accesses each, then 8 accumulators to the bank. The first half of a vector's tiles
multiplies even banks, the second half odd ones. Registers are written through a reserved row of the odd
banks: while even banks compute, that row opens unseen, and the next weight row opens while registers are
written; while odd banks compute, rows take turns. Written so, this program issues its commands on the clocks
of the logs (`tests/hw_targets/pim/test_pim_hbm.py`).

Element-wise kernels load 8 registers from even banks, combine them with 8 accesses to odd banks (or pass them
through the ReLU of MOV), and write 8 registers back.
"""

from __future__ import annotations

from tetrasim.hw_targets.common.dram.program import Close, Command, Instruction, Loop, Row
from tetrasim.hw_targets.pim.layout import Layout, pieces
from tetrasim.hw_targets.pim.steps import Step, ceil_div

_RESERVED = 1 << 20  # rows from any weights to the row of the registers
REGISTERS = 8  # GRF_A, and as many in GRF_B


def launch(body: tuple[Instruction, ...], groups: int, on: Layout) -> tuple[Instruction, ...]:
    """`body` in PIM mode, then the results of `groups` output groups to the host: its reads open the units'
    banks one after the other, unseen behind the first."""
    reads = tuple(
        Loop(count, (Row(), Command("RD", on.units * size)))
        for count, size in pieces(groups * on.outputs_per_unit, on.row_accesses)
    )
    return (*entered(body, on), *reads)


def products(k: int, groups: int, on: Layout, *, first: bool) -> tuple[Instruction, ...]:
    """`groups` output groups of vectors of length `k`. `first`: right after ENTER, where the reserved row is
    open and no weight row is."""
    if not first:
        return (Loop(groups, _group(k, on, first=False)),)
    rest = (Loop(groups - 1, _group(k, on, first=False)),) if groups > 1 else ()
    return (*_group(k, on, first=True), *rest)


def matrices(k: int, shares: list[tuple[int, int]], on: Layout, *, first: bool) -> tuple[Instruction, ...]:
    """One vector each for (count, output groups) of equal matrices."""
    out: list[Instruction] = []
    for count, groups in shares:
        head = 1 if first and not out else 0
        if head:
            out += products(k, groups, on, first=True)
        if count > head:
            out.append(Loop(count - head, products(k, groups, on, first=False)))
    return tuple(out)


def elementwise(kind: str, elements: int, operands: int, written: int, on: Layout) -> Step:
    """An operation on vectors of `elements` with `operands` inputs, of which the host writes `written` first
    (the others are parameters that lie in the banks)."""
    bursts = ceil_div(elements, on.lanes)
    each = ceil_div(ceil_div(bursts, on.channels), on.units)  # of one unit
    writes: list[Instruction] = []
    runs: list[Instruction] = []
    reads: list[Instruction] = []
    for count, size in pieces(each, on.row_accesses):
        writes.append(Loop(count, (Row(), Command("WR", on.units * size * written))))
        steps: list[Instruction] = [Row()]
        for times, registers in pieces(size, REGISTERS):
            one = (Command("EWab", registers * operands), Command("MOVab", registers))
            steps.append(Loop(times, one))
        runs.append(Loop(count, tuple(steps)))
        reads.append(Loop(count, (Row(), Command("RD", on.units * size))))
    same = (Loop(1, tuple(writes), row_step=0), *entered((Loop(1, tuple(runs), row_step=0),), on))
    return Step(kind, (*(same if written else same[1:]), *reads), bursts, each * on.units * on.channels)


def entered(body: tuple[Instruction, ...], on: Layout) -> tuple[Instruction, ...]:
    """`body` between the switches to PIM mode and back, where they are charged."""
    if not on.launches:
        return body
    return (Close(), Command("ENTER"), *body, Close(), Command("LEAVE"))


def _group(k: int, on: Layout, *, first: bool) -> tuple[Instruction, ...]:
    """One output group: all input tiles, then the accumulators to the bank."""
    tiles = [size for count, size in pieces(k, on.inputs) for _ in range(count)]
    even = ceil_div(len(tiles), 2) if on.paired else len(tiles)
    out: list[Instruction] = []
    for i, (count, size) in enumerate(_runs(tiles[:even])):
        head = 1 if first and not i else 0
        if head:
            out += _tile(size, on, "start")
        if count > head:
            out.append(Loop(count - head, _tile(size, on, "even")))
    for i, (count, size) in enumerate(_runs(tiles[even:])):
        head = 0 if i else 1
        if head:
            out += _tile(size, on, "turn")
        if count > head:
            out.append(Loop(count - head, _tile(size, on, "odd")))
    results = Command("MOVab", on.outputs_per_unit)
    return (*out, results) if on.paired and len(tiles) == 1 else (*out, Row(), results)


def _runs(sizes: list[int]) -> list[tuple[int, int]]:
    return [(sizes.count(size), size) for size in dict.fromkeys(sizes)]


def _tile(values: int, on: Layout, kind: str) -> tuple[Instruction, ...]:
    """One input tile. `kind`: "start" of a launch, "even" banks, "turn" from even banks to odd, "odd"."""
    loads = ceil_div(values, on.lanes)
    rows = pieces(loads * on.outputs_per_unit, on.row_accesses)
    macs: list[Instruction] = []
    for size in (size for count, size in rows for _ in range(count)):
        macs += [Row(), Command("MACab", size)] if macs else [Command("MACab", size)]
    if kind == "even":
        return (Close(), Command("WRGRF"), Row(), Command("WRGRF", loads - 1), *macs)
    if kind == "odd":
        return (Row(_RESERVED), Command("WRGRFodd", loads), Row(1 - _RESERVED), *macs)
    return (Command("WRGRF" if kind == "start" else "WRGRFodd", loads), Row(), *macs)
