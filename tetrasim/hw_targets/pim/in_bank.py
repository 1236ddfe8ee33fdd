"""AiM's other in-bank commands: activation functions by a table, and element-wise products.

Activation (AF): a table of the function lies in a reserved row of every bank (Kwon et al., JSSC 2023,
10.1109/JSSC.2022.3200718: GELU, sigmoid, tanh, ReLU, leaky ReLU). The host writes one value into each bank's
MAC register, AF looks it up in the open table row, and the result is read from the AF register. Writing
values instead of keeping a product's result in the register is the shorter way: it leaves the table row open
for all values, where a look-up after each dot product would close and open two rows per 16 outputs, and it
allows sums over input chunks.

Element-wise product (EWMUL): in every bank group, bank 0 times bank 1 into another bank of the group, 16
lanes of four groups per command (arkhadem/aim_simulator, MIT: "in 4 banks"). Operands that are not parameters
are written first, the result is read: all channels need all of it as their next input, so a copy to the
channel's own buffer (COPY_BKGB) would not do.
"""

from __future__ import annotations

from tetrasim.hw_targets.common.dram.program import Close, Command, Instruction, Loop, Row, Wait
from tetrasim.hw_targets.pim.layout import Layout, pieces
from tetrasim.hw_targets.pim.steps import Step, ceil_div

GROUP_BANKS = 4  # banks of a bank group: two operands, one result


def table_lookups(elements: int, on: Layout) -> Step:
    """An activation of `elements` values, one per bank and command."""
    total = ceil_div(elements, on.units)
    groups = ceil_div(total, on.channels)
    wait: tuple[Instruction, ...] = (Wait(on.result_wait),) if on.result_wait else ()
    one = (Command("WRMAC16"), Command("AF16"), Command("RDAF16"), *wait)
    return Step("activation table", (Row(), Loop(groups, one)), total, groups * on.channels)


def product(elements: int, written: int, on: Layout) -> Step:
    """An element-wise product of which `written` operands come from the host."""
    bursts = ceil_div(elements, on.lanes)
    each = ceil_div(bursts, on.channels)
    at_once = on.units // GROUP_BANKS
    body: list[Instruction] = []
    for count, size in pieces(each, at_once * on.row_accesses):
        run = (
            Row(), Command("WR", size * written), Command("EWMUL16", ceil_div(size, at_once)),
            Command("RD", size),
        )  # fmt: skip
        body.append(Loop(count, run))
    return Step("element-wise product", (*body, Close()), bursts, each * on.channels)
