"""PIM channel programs: speed-ups on equal speed-ups off, and every emitted command is legal."""

from __future__ import annotations

import pytest
from dram_legality import Logged, read_rules, row_violations, violations
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.channel import Channel, Running, build_channel
from tetrasim.hw_targets.common.dram.program import (
    Close,
    Command,
    Dialect,
    Instruction,
    Loop,
    Row,
    Wait,
    encode,
)
from tetrasim.hw_targets.common.dram.yaml_device import find_tables

PARTS = ("rows", "columns", "bus", "switch", "refresh")


def aim(device: str, interval: int, postpone: int, *, slow: bool, grouped: bool = False) -> Channel:
    dialect = Dialect(
        "ACT4" if grouped else "ACT16",
        "PREA",
        ("MAC16",),
        activates=4 if grouped else 1,
        mode="TMOD" if device == "gddr6-aim" else "",
        refresh="REFab",
        refresh_interval=interval,
        postpone=postpone,
    )
    part = dict.fromkeys(("WRGB", "WRMAC16", "RDMAC16", "RD", "WR"), "bus")
    part |= {"ACT16": "rows", "PREA": "rows", "MAC16": "columns", "REFab": "refresh", "TMOD": "switch"}
    used = {n: p for n, p in part.items() if not (grouped and n == "ACT16")}
    used = {n: p for n, p in used.items() if n != "TMOD" or device == "gddr6-aim"}
    return build_channel(find_tables(device), dialect, used, PARTS, {"RDMAC16": 3, "RD": 14}, exact_slow=slow)


counts = st.integers(1, 40)
leaf = st.one_of(
    st.builds(lambda n: (Command("WRGB", n),), counts),
    st.builds(lambda n: (Row(), Command("MAC16", n)), counts),
    st.builds(lambda n: (Row(), Command("MAC16", n), Command("RDMAC16"), Wait(3)), counts),
    st.builds(lambda n: (Row(bank=True), Command("WR", n, bank=True)), counts),
    st.builds(lambda n: (Row(bank=True), Command("RD", n, bank=True), Close()), counts),
    st.just((Command("WRMAC16"),)),
)


def looped(inner: st.SearchStrategy[tuple[Instruction, ...]]) -> st.SearchStrategy[tuple[Instruction, ...]]:
    many = st.lists(inner, min_size=1, max_size=3).map(lambda parts: tuple(i for p in parts for i in p))
    return st.builds(lambda n, body: (Loop(n, body),), st.integers(1, 60), many)


def size(program: tuple[Instruction, ...]) -> int:
    """Commands of a program, rows not counted."""
    total = 0
    for item in program:
        total += item.repeats if isinstance(item, Command) else 1
        total += item.count * size(item.body) if isinstance(item, Loop) else 0
    return total


programs = st.recursive(leaf, looped, max_leaves=5).filter(lambda p: size(p) < 60_000)
small = st.recursive(leaf, looped, max_leaves=3).filter(lambda p: size(p) < 3_000)


def state(running: Running) -> tuple[object, ...]:
    return running.clock, running.counts, running.parts, running.row_hits, running.open_cycles


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(programs, st.integers(0, 3000)), min_size=1, max_size=3),
    interval=st.sampled_from([0, 700, 1733, 6825]),
    postpone=st.sampled_from([0, 5000]),
    device=st.sampled_from(["gddr6-aim", "gddr6-pimgpt"]),
)
def test_speed_ups_change_nothing(
    parts: list[tuple[tuple[Instruction, ...], int]], interval: int, postpone: int, device: str
) -> None:
    ends: list[list[object]] = []
    for slow in (False, True):
        channel = aim(device, interval, postpone, slow=slow)
        running = channel.start()
        seen: list[object] = []
        now = 0
        for program, idle in parts:
            now = running.run(encode(program, channel.index), now + idle)
            seen.append((now, state(running)))
        assert sum(running.parts.values()) <= now
        ends.append(seen)
    assert ends[0] == ends[1]


def logged(running: Running) -> list[Logged]:
    single = ("ACT", "PREpb", "RD", "WR")
    return [Logged(c, n, (0, 0, 0) if n in single else (0,)) for c, n in running.log]


@pytest.mark.parametrize("grouped", [False, True])
@settings(max_examples=12, deadline=None)
@given(program=small, interval=st.sampled_from([600, 1733]))
def test_emitted_commands_are_legal(grouped: bool, program: tuple[Instruction, ...], interval: int) -> None:
    device = "gddr6-pimgpt" if grouped else "gddr6-aim"
    channel = aim(device, interval, 0, slow=True, grouped=grouped)
    running = channel.start(log_size=2500)
    running.run(encode(program, channel.index))
    log = logged(running)
    assert violations(log, read_rules(device)) == []
    assert row_violations(log, ("MAC16",), ("RD", "WR")) == []


def test_refresh_goes_at_its_interval() -> None:
    """A long program gets one refresh per interval, each at the first row boundary after it fell due."""
    channel = aim("gddr6-pimgpt", 6825, 0, slow=True)
    running = channel.start(log_size=200_000)
    running.run(encode([Loop(1000, (Row(), Command("MAC16", 64), Command("RDMAC16")))], channel.index))
    clocks = [c for c, n in running.log if n == "REFab"]
    assert len(clocks) == running.clock // 6825
    row = 64 + 12 + 12 + 1
    assert all(0 <= clock - 6825 * (i + 1) <= row + 12 for i, clock in enumerate(clocks))


def test_closed_form_of_the_aim_gemv() -> None:
    """286 cycles per 16 outputs of 1024 inputs: mode switches, row change, 64 MACs, result read."""
    channel = aim("gddr6-aim", 0, 0, slow=False)
    body = (Command("WRMAC16"), Row(0), Command("MAC16", 64), Command("RDMAC16"), Wait(3))
    clocks = []
    for groups in (10, 11, 500):
        running = channel.start()
        running.run(encode([Command("WRGB", 64), Loop(groups, body, 1, True)], channel.index))
        clocks.append(running.clock)
    assert clocks == [410 + 9 * 286, 410 + 10 * 286, 410 + 499 * 286]


def test_refresh_that_never_ends_is_refused() -> None:
    with pytest.raises(UserError, match="falls due every 400"):
        aim("gddr6-pimgpt", 400, 0, slow=False)
