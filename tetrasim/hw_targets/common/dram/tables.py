"""Device data compiled to arrays for the kernels.

The hierarchy is a tree of nodes; a command addresses one node and touches every node on the path to it.
`ready[node, c]` is the first clock at which command c may issue as far as that node's history goes, so a
command issues at the maximum over its path, and an issue raises `ready` by the row `gap[level, c, :]`. That
max-plus push form costs the same whether the clock moves by one or by a million; no clock is ticked.
Rules with a window above 1 keep the last `window` issue clocks of their `before` command in a ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.dram.device import Device
from tetrasim.hw_targets.common.dram.expressions import evaluate

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_WINDOW = 64
MAX_GAP = 1 << 32
NEVER = -(1 << 40)  # a gap that binds nobody, and the clock before which everything was idle


@dataclass(frozen=True, eq=False)
class Tables:
    """C commands, L levels, N nodes, W window rules."""

    device: Device
    names: tuple[str, ...]
    gap: NDArray[np.int64]  # [L, C, C] window-1 gaps, NEVER where there is no rule
    path: NDArray[np.int32]  # [N, L] node at each level, -1 below the addressed one
    window: NDArray[np.int64]  # [W, 5] level, before, after, gap, window
    window_start: NDArray[np.int64]  # [C + 1] rules of `window` sorted by `before`
    depth: int  # ring length: largest window

    def index(self, name: str) -> int:
        """Position of a command, for the kernels.

        Raises:
            UserError: the device has no such command.
        """
        self.device.command(name)
        return self.names.index(name)

    @property
    def nodes(self) -> int:
        return len(self.path)

    def fresh(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`ready` and `history` of an idle device."""
        ready = np.full((self.nodes, len(self.names)), NEVER, dtype=np.int64)
        history = np.full((self.nodes, len(self.names), self.depth), NEVER, dtype=np.int64)
        return ready, history

    def node(self, *position: int) -> int:
        """The node at `position` below the first instance of the outermost level: () is that instance,
        (bg, bank) a bank. Singleton levels in between are passed over."""
        levels = self.device.levels
        inner = [i for i in range(1, len(levels)) if levels[i].count > 1]
        full = [0] * len(levels)
        last = 0
        for i, at in zip(inner, position, strict=False):
            full[i] = at
            last = i
        if not position:  # the deepest node that still covers every bank
            last = (inner[0] - 1) if inner else len(levels) - 1
        elif len(position) == len(inner):
            last = len(levels) - 1
        return _offset(levels_counts(self.device), full[: last + 1])


def levels_counts(device: Device) -> list[int]:
    """Instances per parent, the outermost counted as one: a kernel simulates one channel."""
    return [1, *(level.count for level in device.levels[1:])]


def _offset(counts: list[int], position: list[int]) -> int:
    """Number of a node, breadth first."""
    start, width, within = 0, 1, 0
    for count, at in zip(counts, position, strict=False):
        within = within * count + at
        width *= count
        start += width
    return start - width + within


def compile_device(device: Device) -> Tables:
    """Arrays for the kernels.

    Raises:
        UserError: a rule names an unknown level, command or timing value, or has a negative gap.
    """
    names = tuple(c.name for c in device.commands)
    cycles = {c.name: c.cycles for c in device.commands}
    levels = [level.name for level in device.levels]
    count = len(names)
    gap = np.full((len(levels), count, count), NEVER, dtype=np.int64)
    windows: list[tuple[int, int, int, int, int]] = []
    for rule in device.constraints:
        where = rule.place or device.name
        if rule.level not in levels:
            raise UserError(f"unknown level '{rule.level}'", where=where, hint=nearest(rule.level, levels))
        for name in (*rule.before, *rule.after):
            if name not in names:
                raise UserError(f"unknown command '{name}'", where=where, hint=nearest(name, names))
        least = evaluate(rule.min_gap, device.timing, where)
        if abs(least) > MAX_GAP:
            raise UserError(f"the gap '{rule.min_gap}' is {least:.3g} cycles", where=where, hint="a slip?")
        if least < 0:
            raise UserError(
                f"the gap '{rule.min_gap}' is negative ({least})", where=where, hint="a gap is 0 or more"
            )
        if not 1 <= rule.window <= MAX_WINDOW:
            raise UserError(
                f"window {rule.window} is not 1 to {MAX_WINDOW}", where=where, hint="1: the last command"
            )
        for before in rule.before:
            for after in rule.after:
                at = _where(device, levels.index(rule.level), before, after, rule.window, where)
                least_here = least + cycles[before] - cycles[after]
                b, a = names.index(before), names.index(after)
                if rule.window == 1:
                    gap[at, b, a] = max(gap[at, b, a], least_here)
                else:
                    windows.append((at, b, a, least_here, rule.window))
    windows.sort(key=lambda w: (w[1], w[0]))
    table = np.array(windows, dtype=np.int64).reshape(len(windows), 5)
    starts = np.searchsorted(table[:, 1], np.arange(count + 1)).astype(np.int64)
    depth = int(table[:, 4].max()) if windows else 1
    return Tables(device, names, gap, _paths(device), table, starts, depth)


def _where(device: Device, level: int, before: str, after: str, window: int, where: str) -> int:
    """The level at which a rule between two commands counts. A command that addresses more than one instance
    of the rule's level (PREab and a rule per bank) touches, or waits for, every one of them: so the rule
    counts where that command does.

    Raises:
        UserError: a command of all instances that waits for several past issues in each of them.
    """
    names = [level.name for level in device.levels]
    first, second = (names.index(device.command(n).level) for n in (before, after))
    if window > 1 and second < min(level, first):
        raise UserError(
            f"'{after}' addresses all of {names[level]}, which cannot count {window} issues in each",
            where=where,
            hint=f"write the rule at level {names[second]}",
        )
    return min(level, first, second)


def _paths(device: Device) -> NDArray[np.int32]:
    """Breadth-first tree: [N, L] ancestors of every node, itself included, -1 below."""
    counts = levels_counts(device)
    rows: list[list[int]] = []
    above: list[list[int]] = [[]]
    for count in counts:
        here: list[list[int]] = []
        for parent in above:
            for _ in range(count):
                here.append([*parent, len(rows) + len(here)])
        rows.extend(here)
        above = here
    return np.array([row + [-1] * (len(counts) - len(row)) for row in rows], dtype=np.int32)
