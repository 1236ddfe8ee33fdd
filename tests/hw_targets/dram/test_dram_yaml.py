"""Device files: the shipped ones load; mistakes are refused with file, line and the nearest name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.stream import Commands, issue
from tetrasim.hw_targets.common.dram.tables import compile_device
from tetrasim.hw_targets.common.dram.yaml_device import DEVICES, device_names, find_device, load_device

GOOD = (DEVICES / "gddr6.yaml").read_text(encoding="utf-8")


def test_shipped_devices_load() -> None:
    wanted = {"gddr6", "gddr6-aim", "hbm2", "hbm2-pim", "hbm3", "ddr4", "ddr5", "lpddr5"}
    assert wanted <= set(device_names())
    for name in device_names():
        assert find_device(name).constraints


def line_of(text: str, needle: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if needle in line)


@pytest.mark.parametrize(
    ("old", "new", "needle", "what", "hint"),
    [
        (
            "after: [ACT], min_gap: nRRDS}",
            "after: [ACTT], min_gap: nRRDS}",
            "ACTT",
            "unknown command 'ACTT'",
            "ACT",
        ),
        ("min_gap: nRRDS}", "min_gap: -3}", "min_gap: -3", "negative", "0 or more"),
        ("min_gap: nRRDS}", "min_gap: nRRDS - 100}", "nRRDS - 100", "negative", "0 or more"),
        ("  nRRDS: 11\n", "", "nRRDS", "timing value 'nRRDS'", "nRRDL"),
        ("  nRP: 30", "  nRP: -30", "nRP: -30", "negative", ""),
        ("  nRP: 30", "  nRP: thirty", "nRP: thirty", "not a whole number", ""),
        (
            "level: BankGroup, before: [ACT]",
            "level: BankGruop, before: [ACT]",
            "BankGruop",
            "unknown level",
            "BankGroup",
        ),
        ("window: 4}", "windows: 4}", "windows: 4", "unknown key 'windows'", "window"),
        ("min_gap: nRRDS}", "min_gap: __import__('os')}", "__import__", "not integer arithmetic", ""),
        ("energy:", "enrgy:", "enrgy:", "unknown key 'enrgy'", "energy"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, old: str, new: str, needle: str, what: str, hint: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_device(file)
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.where == f"{file}:{line_of(text, needle)}"


def test_rules_of_banks_hold_for_commands_of_all_banks(tmp_path: Path) -> None:
    """A rule per bank before or after an all-bank command counts for every bank."""
    file = tmp_path / "mine.yaml"
    rules = "  - {level: Bank, before: [PREab], after: [ACT], min_gap: 77}\n"
    rules += "  - {level: Bank, before: [ACT], after: [PREab], min_gap: 99}\n"
    file.write_text(f"name: mine\nbased_on: gddr6\nconstraints:\n{rules}", encoding="utf-8")
    tables = compile_device(load_device(file))
    act, pre = tables.index("ACT"), tables.index("PREab")
    commands = Commands(
        np.array([act, pre, act], np.int32),
        np.array([tables.node(3, 2), tables.node(), tables.node(1, 1)], np.int32),
        np.zeros(3, np.int32),
    )
    assert issue(commands, tables).tolist() == [0, 99, 99 + 77]
    rules = "  - {level: Bank, before: [ACT], after: [PREab], min_gap: 9, window: 2}\n"
    file.write_text(f"name: mine\nbased_on: gddr6\nconstraints:\n{rules}", encoding="utf-8")
    with pytest.raises(UserError, match="cannot count 2 issues"):
        load_device(file)


def test_missing_section(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: x\nlevels: {Channel: 1}\n", encoding="utf-8")
    with pytest.raises(UserError, match="'commands' is missing"):
        load_device(file)


def test_unknown_device_names_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        find_device("gdr6")
    assert "gddr6" in caught.value.hint
