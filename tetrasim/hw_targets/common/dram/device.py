"""A DRAM device is data: levels, commands, timing values, constraints, currents.

A constraint `(level, before, after, min_gap, window)` reads: a command of `after` may issue `min_gap` cycles
after the `window`-th most recent command of `before` in the same instance of `level`, plus
`cycles(before) - cycles(after)` for commands that take more than one clock. With `window` 4 that is tFAW.
Every rule of every standard and PIM dialect here has this one form (the form of Ramulator 2.x).

Device files are YAML (`devices/*.yaml`, or a user's own); see `yaml_device.py` for reading them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tetrasim.errors import UserError, nearest


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the hierarchy, outermost first; `count` instances per instance of the level above."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Command:
    """`level`: what it addresses (Bank: one bank; Channel: everything below). `opens`/`closes`: rows of the
    addressed banks. `mode` 1: legal in register mode only (a mode-switching dialect inserts a TMOD)."""

    name: str
    level: str
    opens: bool = False
    closes: bool = False
    mode: int = 0
    cycles: int = 1


@dataclass(frozen=True, slots=True)
class Constraint:
    """See the module's first lines; `min_gap` is an expression over timing names; `place` is file:line."""

    level: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    min_gap: str
    window: int = 1
    place: str = ""


@dataclass(frozen=True, slots=True)
class Energy:
    """Data-sheet currents (mA, whole channel) and the volts they were taken at, or direct energies where a
    vendor or simulator states those. Zero: unknown, and then the component is reported as missing."""

    vdd_v: float = 0.0
    idd0_ma: float = 0.0
    idd2n_ma: float = 0.0
    idd3n_ma: float = 0.0
    idd4r_ma: float = 0.0
    idd4w_ma: float = 0.0
    idd5_ma: float = 0.0
    io_pj_per_bit: float = 0.0
    act_pre_pj: float = 0.0  # per bank, overrides the IDD formula
    read_pj: float = 0.0  # per burst at the array's edge, overrides the IDD formula
    write_pj: float = 0.0
    array_fraction: float = 1.0  # share of a burst's read energy that an in-bank read still spends


@dataclass(frozen=True)
class Device:
    """`timing` holds integer cycles of `tck_ps`; `banks` counts per channel."""

    name: str
    title: str
    levels: tuple[Level, ...]
    commands: tuple[Command, ...]
    timing: Mapping[str, int]
    constraints: tuple[Constraint, ...]
    tck_ps: int = 1000
    row_bytes: int = 2048
    burst_bytes: int = 32
    rows: int = 16384
    postpone_limit: int = 8  # refresh intervals that a due refresh may wait; 8 in most JEDEC standards
    energy: Energy = field(default_factory=Energy)
    file: str = ""

    @property
    def banks(self) -> int:
        """Banks of one instance of the outermost level."""
        total = 1
        for level in self.levels[1:]:
            total *= level.count
        return total

    def command(self, name: str) -> Command:
        """Raises UserError for an unknown command, with the nearest name."""
        for command in self.commands:
            if command.name == name:
                return command
        raise UserError(
            f"{self.name} has no command '{name}'",
            where=self.file,
            hint=nearest(name, [c.name for c in self.commands]),
        )
