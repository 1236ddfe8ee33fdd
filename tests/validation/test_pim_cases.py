"""The DRAM engines reproduce clocks measured on public simulators: every case, and every logged command."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tetrasim.hw_targets.common.dram import hbm_pim
from tetrasim.hw_targets.common.dram.cases import read_cases, timing_of
from tetrasim.hw_targets.common.dram.program import encode
from tetrasim.hw_targets.common.dram.replay import aim_channel, aim_instructions, run_case
from tetrasim.hw_targets.pim.validate import MEASURED

DATA = Path(__file__).parent / "data" / "pim"
CASES = {c.id: c for c in read_cases(MEASURED / "cases.json")}


@pytest.mark.parametrize("name", CASES)
def test_case_matches(name: str) -> None:
    outcome = run_case(CASES[name])
    assert outcome.match, outcome.reason


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("A")])
def test_program_matches_without_speed_ups(name: str) -> None:
    assert run_case(CASES[name], exact_slow=True).match


@pytest.mark.parametrize("name", ["A4_gemv_256x512", "A5_gemv_16x1024"])
def test_aim_log(name: str) -> None:
    case = CASES[name]
    channel = aim_channel(timing_of(case), exact_slow=True)
    running = channel.start(log_size=1000)
    running.run(encode(aim_instructions(case.get("program", list), name), channel.index))
    with (DATA / f"{name}.csv").open() as file:
        assert running.log == [(int(clock), command) for clock, command in csv.reader(file)]


@pytest.mark.parametrize(
    ("name", "shape"), [("S1_gemv_128x128", (128, 128)), ("S2_gemv_64x1024", (64, 1024))]
)
def test_hbm_pim_log(name: str, shape: tuple[int, int]) -> None:
    case = next(c for c in CASES.values() if c.id.startswith(name[:2]))
    log = hbm_pim.run_gemv(*shape, timing_of(case)).lines()
    with (DATA / f"{name}.csv").open() as file:
        expected = [(int(c), command, int(b), int(r)) for c, command, b, r in csv.reader(file)]
    assert [(i.clock, i.command, i.bank, i.row) for i in log] == expected
