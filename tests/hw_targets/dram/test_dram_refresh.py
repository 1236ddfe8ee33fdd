"""Refresh bank by bank in a PIM system: legal, the same with and without speed-ups, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from dram_legality import Logged, read_rules, row_violations, violations

from tetrasim.facade import load_for
from tetrasim.flow.phases import lowered_phases
from tetrasim.flow.setup import set_up
from tetrasim.hw_targets.common.dram.program import encode
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.machine import layout, machine
from tetrasim.hw_targets.pim.mapping import access_rows, weights_gemv, write_state
from tetrasim.hw_targets.pim.steps import StateWrite
from tetrasim.hw_targets.pim.target import TARGET
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ir.family import GraphFamily

PRESETS = ("pim-gpt", "aim", "hbm-pim", "lpddr5x-pim")
PER_BANK: dict[str, str | bool] = {"refresh_banks": "per_bank"}


def config(preset: str, **changes: str | bool) -> PimConfig:
    found = find_preset(f"pim/{preset}")[1].config
    assert isinstance(found, PimConfig)
    return with_overrides(found, changes)


@cache
def decoder(preset: str) -> GraphFamily:
    model, workload = load_for("gpt2-small", prompt=8, generate=4)
    return lowered_phases(model, set_up(f"pim/{preset}", {}), workload)[1][1]


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_are_legal(preset: str) -> None:
    used = config(preset, exact_slow=True, **PER_BANK)
    on = machine(used)
    running = on.channel.start(log_size=4000)
    one = replace(layout(used), channels=1)
    steps = [
        weights_gemv(300, one.group * 2, 2, one),
        access_rows("RD", 2, 3000, one),
        write_state(StateWrite(1, 600, False, 2), one),
    ]
    now = on.device.timing["nREFIpb"] * 20 - 300
    for step in steps:
        now = running.run(encode(step.instructions, on.channel.index), now) + 40
    depth, banks = len(on.device.levels), on.device.banks
    counts = [1, *(level.count for level in on.device.levels[1:])]
    log: list[Logged] = []
    every_bank, turn = False, 0
    for clock, name in running.log:
        if name in ("ACT4", "ACT16", "ACTab", "ACT"):
            every_bank = name != "ACT"
        single = name in ("ACT", "PREpb", "RD", "WR") and not (every_bank and name in ("RD", "WR"))
        at = (0,) * (depth if single else depth - 2)
        if name == "REFpb":
            at = tuple(int(i) for i in np.unravel_index(turn % banks, counts))
            turn += 1
        log.append(Logged(clock, name, at))
    assert turn >= 19
    assert "REFab" not in {entry.command for entry in log}
    assert violations(log, read_rules(used.device, dict(on.device.timing))) == []
    assert row_violations(log, ("MAC16", "MACab"), ("RD", "WR")) == []


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("when", ["row", "instruction"])
def test_speed_ups_change_nothing(preset: str, when: str) -> None:
    assert TARGET.simulate_runs is not None
    fast, slow = (
        TARGET.simulate_runs(
            decoder(preset), range(60, 62), config(preset, refresh=when, exact_slow=s, **PER_BANK)
        )
        for s in (False, True)
    )
    for name in ("total_ps", "part_ps", "energy_pj", "busy_ps", "node_ps"):
        assert np.array_equal(getattr(fast, name), getattr(slow, name)), name


@pytest.mark.parametrize("preset", PRESETS)
def test_all_bank_work_pays_more_for_it(preset: str) -> None:
    """Every MAC needs all banks, so one that refreshes stops all: REFab is the cheaper one, none cheapest.
    Refreshed one after the other at the next instruction, the banks overlap and lose less."""
    assert TARGET.simulate_runs is not None
    times = [
        int(TARGET.simulate_runs(decoder(preset), range(60, 62), used).total_ps.sum())
        for used in (
            config(preset, refresh="none"),
            config(preset),
            config(preset, refresh="instruction", **PER_BANK),
            config(preset, **PER_BANK),
        )
    ]
    assert times[0] < times[1] < times[3]
    assert times[0] < times[2] < times[3]
