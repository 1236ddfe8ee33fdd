"""Reading device files: every mistake is refused with file, line and the nearest valid name.

name: GDDR6
title: GDDR6 14 Gb/s, 8 Gb x16
source: where the values are from; a value may carry its own
tck_ps: 570
levels: {Channel: 1, BankGroup: 4, Bank: 4}
commands:
  ACT: {level: Bank, opens: true}
timing:
  nRP: 30
  nRFC: {value: 211, source: a table, mark: inferred}
constraints:
  - {level: Bank, before: [PREpb], after: [ACT], min_gap: nRP}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache, lru_cache
from pathlib import Path

from tetrasim.errors import UserError, nearest
from tetrasim.files.yaml import Plain, read_yaml
from tetrasim.hw_targets.common.dram.device import Command, Constraint, Device, Energy, Level
from tetrasim.hw_targets.common.dram.expressions import names_in
from tetrasim.hw_targets.common.dram.tables import Tables, compile_device

MAX_BANKS = 4096  # of one channel; HBM4 has 128
MAX_VALUE = 1 << 30  # of a timing value, a row, a number of rows
DEVICES = Path(__file__).parent / "devices"
_KEYS = (
    "name", "title", "source", "note", "based_on", "tck_ps", "row_bytes", "burst_bytes", "rows", "levels",
    "postpone_limit", "commands", "timing", "constraints", "energy",
)  # fmt: skip
_RULE_KEYS = ("level", "before", "after", "min_gap", "window")
_COMMAND_KEYS = ("level", "opens", "closes", "mode", "cycles")


@cache
def device_names() -> tuple[str, ...]:
    """Devices that ship."""
    return tuple(sorted(p.stem for p in DEVICES.glob("*.yaml")))


def find_device(name: str) -> Device:
    """A shipped device by name, or a user's file (`path/to/mine.yaml`).

    Raises:
        UserError: unknown name, or anything wrong in the file.
    """
    if name.endswith((".yaml", ".yml")):
        return load_device(Path(name))
    if name not in device_names():
        raise UserError(
            f"unknown DRAM device '{name}'",
            hint=f"{nearest(name, device_names())} Or give the path of a .yaml file.",
        )
    return _shipped(name)


@lru_cache(maxsize=64)
def _shipped(name: str) -> Device:
    """A file of the package does not change while it runs; reading it takes longer than a token."""
    return load_device(DEVICES / f"{name}.yaml")


@lru_cache(maxsize=64)
def find_tables(name: str) -> Tables:
    """Compiled tables of `find_device`."""
    return compile_device(find_device(name))


def load_device(file: Path) -> Device:
    """Read and check a device file; `based_on: gddr6` starts from a shipped device and adds to it.

    Raises:
        UserError: with file, line and the nearest valid name.
    """
    found = read_yaml(file)
    tree = found.tree
    reader = _Reader(file, found.lines)
    reader.known(tree, _KEYS, "")
    base = _base(str(tree["based_on"]), reader) if "based_on" in tree else None
    for key in ("name",) if base else ("name", "levels", "commands", "timing", "constraints"):
        if key not in tree:
            raise UserError(f"'{key}' is missing", where=str(file), hint="see docs/pim.md for the form")
    levels = reader.levels(tree) if "levels" in tree else (base.levels if base else ())
    timing = {**(base.timing if base else {}), **reader.timing(tree)}
    own = reader.commands(tree, [level.name for level in levels])
    commands = {c.name: c for c in (*(base.commands if base else ()), *own)}
    rules = (*(base.constraints if base else ()), *reader.constraints(tree))
    device = Device(
        name=str(tree["name"]),
        title=str(tree.get("title", tree["name"])),
        levels=levels,
        commands=tuple(commands.values()),
        timing=timing,
        constraints=rules,
        tck_ps=reader.whole(tree, "tck_ps", base.tck_ps if base else 1000),
        row_bytes=reader.whole(tree, "row_bytes", base.row_bytes if base else 2048),
        burst_bytes=reader.whole(tree, "burst_bytes", base.burst_bytes if base else 32),
        rows=reader.whole(tree, "rows", base.rows if base else 16384),
        postpone_limit=reader.whole(tree, "postpone_limit", base.postpone_limit if base else 8),
        energy=reader.energy(tree) if "energy" in tree else (base.energy if base else Energy()),
        file=str(file),
    )
    _check_size(device, reader)
    compile_device(device)
    if file.parent != DEVICES:
        _check_timing(device, reader, tree)
    return device


def _base(name: str, reader: _Reader) -> Device:
    """The shipped device that a file starts from.

    Raises:
        UserError: there is none of this name; a file as a base could be based on the first one again.
    """
    if name not in device_names():
        raise UserError(
            f"unknown base '{name}'", where=reader.where("based_on"), hint=nearest(name, device_names())
        )
    return _shipped(name)


def _check_size(device: Device, reader: _Reader) -> None:
    """Every level has at least one instance, and the simulated channel no more than its tables can hold.

    Raises:
        UserError: naming the level, or the number of banks.
    """
    for level in device.levels:
        if level.count < 1:
            raise UserError(
                f"'levels.{level.name}' is {level.count}",
                where=reader.where(f"levels.{level.name}"),
                hint="1 or more",
            )
    if device.banks > MAX_BANKS:
        raise UserError(
            f"a channel of {device.banks:,} banks is more than {MAX_BANKS}",
            where=reader.where("levels"),
            hint="the counts are instances per level above",
        )
    for key, value in (("tck_ps", device.tck_ps), ("row_bytes", device.row_bytes), ("rows", device.rows)):
        if not 1 <= value <= MAX_VALUE:
            raise UserError(f"'{key}' is {value}", where=reader.where(key), hint=f"1 to {MAX_VALUE}")
    for name, cycles in device.timing.items():
        if cycles > MAX_VALUE:
            raise UserError(
                f"'{name}' is {cycles}", where=reader.where(f"timing.{name}"), hint=f"0 to {MAX_VALUE}"
            )


def _check_timing(device: Device, reader: _Reader, tree: Mapping[str, Plain]) -> None:
    """A timing value that nothing reads is a slip: the rule that was meant keeps another value.

    Engines (refresh, energy, PIM dialects) read some that no rule does; shipped devices have all of those.

    Raises:
        UserError: with the nearest name that is read.
    """
    read = {name for rule in device.constraints for name in names_in(rule.min_gap)}
    for name in reader.table(tree, "timing"):
        if name not in read and name not in _standard_timing():
            raise UserError(
                f"no rule reads the timing value '{name}'",
                where=reader.where(f"timing.{name}"),
                hint=nearest(name, read),
            )


@cache
def _standard_timing() -> frozenset[str]:
    """Names of timing values in the files that ship."""
    trees = (read_yaml(DEVICES / f"{name}.yaml").tree.get("timing") for name in device_names())
    return frozenset(str(key) for tree in trees if isinstance(tree, dict) for key in tree)


class _Reader:
    """One file being read: turns YAML into checked parts."""

    def __init__(self, file: Path, lines: Mapping[str, int]) -> None:
        self.file = file
        self.lines = lines

    def where(self, path: str) -> str:
        return f"{self.file}:{self.lines.get(path, self.lines.get(path.rpartition('.')[0], 1))}"

    def known(self, tree: Mapping[str, Plain], keys: tuple[str, ...], path: str) -> None:
        for key in tree:
            if key not in keys:
                here = f"{path}.{key}" if path else str(key)
                raise UserError(f"unknown key '{here}'", where=self.where(here), hint=nearest(str(key), keys))

    def table(self, tree: Mapping[str, Plain], key: str) -> dict[str, Plain]:
        value = tree.get(key, {})
        if not isinstance(value, dict):
            raise UserError(f"'{key}' should be a mapping", where=self.where(key))
        return value

    def whole(self, tree: Mapping[str, Plain], key: str, default: int) -> int:
        return self.number(tree[key], key) if key in tree else default

    def number(self, value: Plain, path: str) -> int:
        """A non-negative integer, plain or as `{value:, source:, mark:}`."""
        if isinstance(value, dict):
            self.known(value, ("value", "source", "mark"), path)
            value = value.get("value")
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(
                f"'{path}' is {value!r}, not a whole number of cycles",
                where=self.where(path),
                hint="give a value in cycles of tck_ps",
            )
        if value < 0:
            raise UserError(f"'{path}' is negative ({value})", where=self.where(path))
        return value

    def levels(self, tree: Mapping[str, Plain]) -> tuple[Level, ...]:
        items = self.table(tree, "levels").items()
        return tuple(Level(str(name), self.number(count, f"levels.{name}")) for name, count in items)

    def timing(self, tree: Mapping[str, Plain]) -> dict[str, int]:
        items = self.table(tree, "timing").items()
        return {str(k): self.number(v, f"timing.{k}") for k, v in items}

    def commands(self, tree: Mapping[str, Plain], levels: list[str]) -> tuple[Command, ...]:
        out = []
        for name, item in self.table(tree, "commands").items():
            path = f"commands.{name}"
            if not isinstance(item, dict):
                raise UserError(f"'{path}' should be a mapping", where=self.where(path))
            self.known(item, _COMMAND_KEYS, path)
            level = str(item.get("level", ""))
            if level not in levels:
                raise UserError(
                    f"'{path}' addresses the unknown level '{level}'",
                    where=self.where(path),
                    hint=nearest(level, levels),
                )
            out.append(
                Command(
                    str(name),
                    level,
                    bool(item.get("opens", False)),
                    bool(item.get("closes", False)),
                    self.number(item.get("mode", 0), f"{path}.mode"),
                    self.number(item.get("cycles", 1), f"{path}.cycles"),
                )
            )
        return tuple(out)

    def constraints(self, tree: Mapping[str, Plain]) -> tuple[Constraint, ...]:
        items = tree.get("constraints", [])
        if not isinstance(items, list):
            raise UserError("'constraints' should be a list", where=self.where("constraints"))
        out = []
        for i, item in enumerate(items):
            where = self.where(f"constraints.{i}")
            if not isinstance(item, dict):
                raise UserError("a constraint should be a mapping", where=where, hint=f"keys: {_RULE_KEYS}")
            for key in item:
                if key not in _RULE_KEYS:
                    raise UserError(
                        f"unknown key '{key}' of a constraint",
                        where=where,
                        hint=nearest(str(key), _RULE_KEYS),
                    )
            for key in ("level", "before", "after", "min_gap"):
                if key not in item:
                    raise UserError(f"a constraint without '{key}'", where=where)
            window = item.get("window", 1)
            if isinstance(window, bool) or not isinstance(window, int) or window < 1:
                raise UserError(f"window {window!r} is not a whole number above 0", where=where)
            gap = item["min_gap"]
            if isinstance(gap, int) and not isinstance(gap, bool) and gap < 0:
                raise UserError(f"the gap {gap} is negative", where=where, hint="a gap is 0 or more cycles")
            out.append(
                Constraint(
                    str(item["level"]), _names(item["before"]), _names(item["after"]), str(gap), window, where
                )
            )
        return tuple(out)

    def energy(self, tree: Mapping[str, Plain]) -> Energy:
        known = tuple(f.name for f in fields(Energy))
        values: dict[str, float] = {}
        for key, item in self.table(tree, "energy").items():
            path = f"energy.{key}"
            if key not in known:
                raise UserError(
                    f"unknown key '{path}'", where=self.where(path), hint=nearest(str(key), known)
                )
            value = item.get("value") if isinstance(item, dict) else item
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
                raise UserError(f"'{path}' is {value!r}, not a number of 0 or more", where=self.where(path))
            values[str(key)] = float(value)
        return Energy(**values)


def _names(value: Plain) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list) else (str(value),)
