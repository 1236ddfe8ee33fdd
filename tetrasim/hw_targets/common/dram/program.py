"""PIM channel programs: instructions with loops, mode switches and refresh, issued cycle-exactly in order.

A program is a list of rows `(op, a, b, c)` for one channel (channels that run the same stream are
simulated once). Rows of memory are opened by `ROW`, which precharges, serves a due refresh, and activates; so
refresh, of all banks or of the bank whose turn it is, happens only where all banks are closed, and at the row
change after it has waited `postpone` cycles.

`channel.py` runs programs; this file is their form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray


MAX_DEPTH = 8  # of nested loops


class Op(IntEnum):
    """Opcodes of program rows."""

    COMMAND = 0  # a: command, b: repeats, c: 1 when it addresses one bank
    ROW = 1  # advance the row by a and make it the open one; b: 1 for one bank instead of all
    LOOP = 2  # a: iterations, b: rows advanced per iteration, c: 1 restores the row on exit
    END = 3  # a: number of the loop, unique among the programs that run on a channel
    WAIT = 4  # the host sees the last command a cycles later; nothing issues before
    CLOSE = 5  # precharge if a row is open


@dataclass(frozen=True, slots=True)
class Command:
    """`repeats` issues of `name`; `bank`: addressed to one bank."""

    name: str
    repeats: int = 1
    bank: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Open the row `advance` further on, in all banks or in one."""

    advance: int = 1
    bank: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """The host reads a result: nothing issues for `cycles` after the last command."""

    cycles: int


@dataclass(frozen=True, slots=True)
class Close:
    """Precharge, so that another row layout may follow."""


@dataclass(frozen=True, slots=True)
class Loop:
    """`count` times `body`; `row_step` None: as many rows as the body advances."""

    count: int
    body: tuple[Instruction, ...]
    row_step: int | None = None
    restore_row: bool = False


Instruction = Command | Row | Wait | Close | Loop


def command_count(instructions: Iterable[Instruction]) -> int:
    """Commands that a program issues, an activation per row opened included."""
    total = 0
    for step in instructions:
        if isinstance(step, Loop):
            total += step.count * command_count(step.body)
        else:
            total += step.repeats if isinstance(step, Command) else isinstance(step, Row)
    return total


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which commands of a device the engine inserts by itself. `activates`: issued per all-bank ROW (four
    ACT4 under a power limit), `mode` empty: no mode switching, `columns`: commands that need an open row."""

    activate: str
    precharge: str
    columns: tuple[str, ...]
    activates: int = 1
    bank_activate: str = "ACT"
    bank_precharge: str = "PREpb"
    mode: str = ""
    refresh: str = ""
    refresh_interval: int = 0  # cycles, 0: never
    postpone: int = 0  # cycles a due refresh may wait inside a program
    refresh_per_bank: bool = False  # `refresh` addresses one bank after the other

    @property
    def own_commands(self) -> tuple[str, ...]:
        """Commands that the engine may issue by itself, and the column commands."""
        inserted = (self.activate, self.precharge, self.bank_activate, self.bank_precharge)
        refresh = self.refresh if self.refresh_interval else ""
        return tuple(n for n in (*inserted, *self.columns, self.mode, refresh) if n)


def encode(instructions: Iterable[Instruction], index: Callable[[str], int]) -> NDArray[np.int64]:
    """Program rows [K, 4] of an instruction list; `index` numbers the commands (`Channel.index`).

    Raises:
        UserError: loops nested too deep for the kernel.
    """
    depth = _depth(instructions := list(instructions))
    if depth > MAX_DEPTH:
        raise UserError(f"loops are nested {depth} deep", hint=f"at most {MAX_DEPTH}")
    rows: list[tuple[int, int, int, int]] = []
    _encode(instructions, index, rows)
    return np.array(rows, dtype=np.int64).reshape(len(rows), 4)


def loops_of(program: NDArray[np.int64]) -> int:
    """How many loops an encoded program has."""
    return int((program[:, 0] == Op.END).sum())


def rows_advanced(instructions: Iterable[Instruction]) -> int:
    """Rows that a list of instructions moves on."""
    total = 0
    for instruction in instructions:
        if isinstance(instruction, Row):
            total += instruction.advance
        elif isinstance(instruction, Loop) and not instruction.restore_row:
            step = rows_advanced(instruction.body) if instruction.row_step is None else instruction.row_step
            total += instruction.count * step
    return total


def _depth(instructions: Iterable[Instruction]) -> int:
    loops = [i for i in instructions if isinstance(i, Loop)]
    return 1 + max(_depth(loop.body) for loop in loops) if loops else 0


def _encode(
    instructions: Iterable[Instruction], index: Callable[[str], int], rows: list[tuple[int, int, int, int]]
) -> None:
    for instruction in instructions:
        match instruction:
            case Command(name, repeats, bank):
                if repeats > 0:
                    rows.append((Op.COMMAND, index(name), repeats, int(bank)))
            case Row(advance, bank):
                rows.append((Op.ROW, advance, int(bank), 0))
            case Wait(cycles):
                rows.append((Op.WAIT, cycles, 0, 0))
            case Close():
                rows.append((Op.CLOSE, 0, 0, 0))
            case Loop(count, body, row_step, restore):
                if count > 0:
                    step = rows_advanced(body) if row_step is None else row_step
                    rows.append((Op.LOOP, count, step, int(restore)))
                    _encode(body, index, rows)
                    rows.append((Op.END, sum(row[0] == Op.END for row in rows), 0, 0))
