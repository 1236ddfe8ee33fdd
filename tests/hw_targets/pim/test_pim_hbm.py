"""HBM-PIM kernels of the system model issue their commands on the clocks of Samsung's simulator."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from tetrasim.hw_targets.common.dram import hbm_pim
from tetrasim.hw_targets.common.dram.channel import Running
from tetrasim.hw_targets.common.dram.program import Instruction, encode
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.pim import hbm
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.layout import Layout
from tetrasim.hw_targets.pim.machine import layout, machine
from tetrasim.hw_targets.registry import find_preset

LOGS = Path(__file__).parents[2] / "validation" / "data" / "pim"
# The ini of the S cases (numbers): what the simulator needs that the device file writes differently.
TIMING = {
    "BL": 4, "RL": 20, "WL": 8, "tCCDS": 2, "tCCDL": 4, "tRCDRD": 14, "tRCDWR": 10, "tRAS": 33, "tRRDS": 4,
    "tRRDL": 6, "tRC": 47, "tRP": 14, "tRTPL": 5, "tWR": 16, "tWTRL": 9, "tREFI": 3900, "tRFC": 350,
    "tRTRS": 1,
}  # fmt: skip


def one_channel(**changes: str | bool) -> tuple[PimConfig, Layout]:
    found = find_preset("pim/hbm-pim")[1].config
    assert isinstance(found, PimConfig)
    config = with_overrides(found, {"refresh": "none", "exact_slow": True, **changes})
    return config, replace(layout(config), channels=1)


def run(instructions: tuple[Instruction, ...], config: PimConfig) -> tuple[Running, int]:
    running = machine(config).channel.start(log_size=20_000)
    return running, running.run(encode(instructions, running.on.index))


def kernel(outputs: int, inputs: int, on: Layout) -> tuple[Instruction, ...]:
    """One launch, without the host's reads of the results (the S cases end before them)."""
    groups = -(-outputs // hbm_pim.OUTPUT_TILE)
    whole = hbm.launch(hbm.products(inputs, groups, on, first=True), groups, on)
    return whole[:-1]


@pytest.mark.parametrize("shape", [(64, 128), (128, 128), (64, 1024), (192, 512), (128, 384), (256, 640)])
def test_launch_takes_as_long_as_the_simulator(shape: tuple[int, int]) -> None:
    config, on = one_channel()
    expected = hbm_pim.run_gemv(*shape, TIMING, refresh=False).cycles
    assert run(kernel(*shape, on), config)[1] == expected


def test_commands_are_on_the_clocks_of_the_log() -> None:
    """Case S1: every MAC, register write and result write of the measured log."""
    config, on = one_channel()
    mine = run(kernel(128, 128, on), config)[0].log
    with (LOGS / "S1_gemv_128x128.csv").open() as file:
        log = [(int(clock), name, int(bank), int(row)) for clock, name, bank, row in csv.reader(file)]
    macs = [clock for clock, name, _, row in log if name == "RD" and row < 0x1000]
    writes = [c for c, name, bank, row in log if (name, bank) == ("WR", 1) and row not in (0x17FF, 0x1FFF)]
    assert [c for c, name in mine if name == "MACab"] == macs
    assert [c for c, name in mine if name in ("WRGRF", "MOVab")] == writes[1:]  # the first programs the CRF


def test_elementwise_sum_by_hand() -> None:
    """Two vectors of 1,024 on one channel: 64 bursts each, 8 per unit. The host writes 128 bursts, then one
    launch loads 8, adds 8 and stores 8, then the host reads 64."""
    config, on = one_channel()
    step = hbm.elementwise("sum", 1024, 2, 2, on)
    log = run(step.instructions, config)[0].log
    names = [name for _, name in log]
    counts = {n: names.count(n) for n in dict.fromkeys(names)}
    assert counts == {
        "ACTab": 3, "WR": 128, "PREab": 2, "ENTER": 1, "EWab": 16, "MOVab": 8, "LEAVE": 1, "RD": 64,
    }  # fmt: skip
    at = {name: clock for clock, name in reversed(log)}  # first issues
    last = dict((name, clock) for clock, name in log)
    assert (at["ACTab"], at["WR"]) == (1, 1 + 10)
    assert last["WR"] == 11 + 127 * 2
    assert at["PREab"] == last["WR"] + 8 + 2 + 16  # WL, burst, tWR
    assert at["ENTER"] == at["PREab"] + 14
    assert at["EWab"] == at["ENTER"] + 205 + 14  # the weight row, tRCDRD
    assert at["MOVab"] == at["EWab"] + 15 * 4 + 15  # 16 accesses, then read to write
    assert last["PREab"] == at["MOVab"] + 7 * 4 + 26
    assert at["LEAVE"] == last["PREab"] + 1
    assert at["RD"] == at["LEAVE"] + 181 + 14
    assert last["RD"] == at["RD"] + 63 * 2


def test_a_launch_costs_what_its_mode_switches_take() -> None:
    """Staying in PIM mode saves the entry up to the first register write, and the exit from the results'
    precharge on (write, tWR, then the sequence)."""
    config, on = one_channel()
    free, without = one_channel(mode_switching=False)
    with_modes = run(kernel(64, 128, on), config)[1]
    groups = hbm.products(128, 1, without, first=True)
    alone = run(groups, free)[1]
    # alone: registers from clock 1, and the end of the last write's data instead of precharge and exit
    first_mac = (206 + 14) - (1 + 7 * 4 + 19)
    assert with_modes - alone == first_mac + (8 + 2 + 16) + 1 + 181 - (8 + 2)
