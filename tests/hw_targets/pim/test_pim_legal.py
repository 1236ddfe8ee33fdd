"""Every command that a system's own steps emit is legal on its device, by the independent checker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dram_legality import Logged, read_rules, row_violations, violations

from tetrasim.hw_targets.common.dram.program import encode
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.pim import hbm, in_bank
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.machine import layout, machine
from tetrasim.hw_targets.pim.mapping import access_rows, batched_gemv, key_gemv, weights_gemv, write_state
from tetrasim.hw_targets.pim.steps import StateWrite, Step
from tetrasim.hw_targets.registry import find_preset

SINGLE = ("ACT", "PREpb", "RD", "WR")


def steps_of(config: PimConfig) -> list[Step]:
    """A little of everything, small enough for the naive checker."""
    on = replace(layout(config), channels=1)
    few = on.group * 2
    functions = [
        in_bank.table_lookups(100, on),
        in_bank.product(700, 2, on),
        in_bank.product(2100, 1, on),
    ]
    if config.dialect == "hbm":
        functions = [hbm.elementwise("sum", n, 2, 2, on) for n in (100, 5000)]
        functions.append(hbm.elementwise("product", 300, 2, 1, on))
    if config.elementwise == "host":
        functions = []
    return [
        *functions,
        weights_gemv(300, few, 2, on),
        access_rows("RD", 2, 3000, on),
        write_state(StateWrite(1, 600, False, 2), on),
        key_gemv(2, 64, 40, 1, on),
        batched_gemv(2, 40, on.group, 2, on),
        *reversed(functions),
        write_state(StateWrite(1, on.units * 2, True, 2), on),
    ]


@pytest.mark.parametrize("preset", ["pim-gpt", "aim", "hbm-pim", "lpddr5x-pim"])
@pytest.mark.parametrize("limit", ["none", "grouped", "spaced"])
def test_steps_are_legal(preset: str, limit: str) -> None:
    found = find_preset(f"pim/{preset}")[1].config
    assert isinstance(found, PimConfig)
    if limit == "grouped" and found.dialect == "hbm":
        pytest.skip("grouped activation is an AiM command")
    config = with_overrides(
        found, {"exact_slow": True, "power_limit": limit, "mac_spacing_cycles": 9, "refresh": "row"}
    )
    on = machine(config)
    running = on.channel.start(log_size=6000)
    now = on.device.timing["nREFI"] - 300  # a refresh falls due on the way
    for step in steps_of(config):
        now = running.run(encode(step.instructions, on.channel.index), now) + 40
    depth = len(on.device.levels)
    whole = (0,) * (depth - 2)
    log: list[Logged] = []
    every_bank = False
    for clock, name in running.log:
        if name in ("ACT4", "ACT16", "ACTab", "ACT"):
            every_bank = name != "ACT"
        one = name in SINGLE and not (every_bank and name in ("RD", "WR"))
        log.append(Logged(clock, name, (0,) * depth if one else whole))
    names = {entry.command for entry in log}
    assert {"REFab", "RD", "WR", "ACT"} <= names
    assert violations(log, read_rules(config.device, dict(on.device.timing))) == []
    if config.elementwise == "banks":
        assert {"EWMUL16", "AF16", "RDAF16"} <= names or {"EWab", "ENTER", "LEAVE"} <= names
    # results of HBM-PIM go to a row of the odd banks that the program does not see
    assert row_violations(log, ("MAC16", "MACab", "EWMUL16", "AF16", "EWab"), ("RD", "WR")) == []
