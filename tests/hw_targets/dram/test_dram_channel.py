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


def aim(
    device: str,
    interval: int,
    postpone: int,
    *,
    slow: bool,
    grouped: bool = False,
    per_bank: bool = False,
) -> Channel:
    dialect = Dialect(
        "ACT4" if grouped else "ACT16",
        "PREA",
        ("MAC16",),
        activates=4 if grouped else 1,
        mode="TMOD" if device == "gddr6-aim" else "",
        refresh="REFpb" if per_bank else "REFab",
        refresh_interval=interval,
        postpone=postpone,
        refresh_per_bank=per_bank,
    )
    part = dict.fromkeys(("WRGB", "WRMAC16", "RDMAC16", "RD", "WR"), "bus")
    part |= {"ACT16": "rows", "PREA": "rows", "MAC16": "columns", "TMOD": "switch"}
    part |= {"REFab": "refresh", "REFpb": "refresh"}
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
tiny = st.recursive(leaf, looped, max_leaves=3).filter(lambda p: size(p) < 250)
small = st.recursive(leaf, looped, max_leaves=3).filter(lambda p: size(p) < 3_000)


def state(running: Running) -> tuple[object, ...]:
    return running.clock, running.counts, running.parts, running.row_hits, running.open_cycles


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(programs, st.integers(0, 3000)), min_size=1, max_size=3),
    refresh=st.sampled_from(
        [(0, False), (700, False), (1733, False), (6825, False), (150, True), (426, True)]
    ),
    postpone=st.sampled_from([0, 5000]),
    device=st.sampled_from(["gddr6-aim", "gddr6-pimgpt"]),
)
def test_speed_ups_change_nothing(
    parts: list[tuple[tuple[Instruction, ...], int]], refresh: tuple[int, bool], postpone: int, device: str
) -> None:
    ends: list[list[object]] = []
    interval, per_bank = refresh
    for slow in (False, True):
        channel = aim(device, interval, postpone, slow=slow, per_bank=per_bank)
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
    """Single-bank commands of programs address bank 0, refreshes of one bank go round."""
    single = ("ACT", "PREpb", "RD", "WR")
    turn, out = 0, []
    for clock, name in running.log:
        at = (0, 0, 0) if name in single else (0,)
        if name == "REFpb":
            at = (0, turn // 4, turn % 4)
            turn = (turn + 1) % 16
        out.append(Logged(clock, name, at))
    return out


class Plain:
    """The channel's program rules one clock at a time, legality looked up in the whole log."""

    def __init__(self, device: str, interval: int, postpone: int, *, per_bank: bool, activates: int) -> None:
        self.rules, self.device = read_rules(device), device
        self.interval, self.postpone, self.per_bank = interval, postpone, per_bank
        self.due = interval or 1 << 60
        self.activates, self.turn, self.visible, self.register = activates, 0, 0, False
        self.row, self.opened, self.kind = 0, -1, ""
        self.log: list[Logged] = []

    def earliest(self, name: str, at: tuple[int, ...]) -> int:
        clock = max(self.log[-1].clock + 1 if self.log else 1, self.visible)
        while violations([*self.log[-90:], Logged(clock, name, at)], self.rules):
            clock += 1
        return clock

    def put(self, name: str, at: tuple[int, ...]) -> None:
        register = name in ("WRGB", "WRMAC16", "RDMAC16")
        if self.device == "gddr6-aim" and register != self.register:
            self.log.append(Logged(self.earliest(name, at), "TMOD", (0,)))
            self.register = register
        self.log.append(Logged(self.earliest(name, at), name, at))

    def close(self) -> None:
        if self.kind:
            self.put("PREpb" if self.kind == "one" else "PREA", (0, 0, 0) if self.kind == "one" else (0,))
        self.kind = ""

    def open(self, bank: bool) -> None:
        kind = "one" if bank else "all"
        if self.kind == kind and self.opened == self.row:
            return
        self.close()
        at = (0, 0, 0) if bank else (0,)
        act = "ACT" if bank else "ACT4" if self.activates == 4 else "ACT16"
        if self.earliest(act, at) >= self.due + self.postpone:
            while self.earliest(act, at) >= self.due:
                self.put("REFpb" if self.per_bank else "REFab", self.next_turn() if self.per_bank else (0,))
                self.due += self.interval
        for _ in range(1 if bank else self.activates):
            self.put(act, at)
        self.kind, self.opened = kind, self.row

    def next_turn(self) -> tuple[int, ...]:
        self.turn += 1
        return (0, (self.turn - 1) % 16 // 4, (self.turn - 1) % 4)

    def run(self, program: tuple[Instruction, ...]) -> None:
        for item in program:
            if isinstance(item, Loop):
                for _ in range(item.count):
                    self.run(item.body)
            elif isinstance(item, Row):
                self.row += item.advance
                self.open(item.bank)
            elif isinstance(item, Command):
                for _ in range(item.repeats):
                    self.put(item.name, (0, 0, 0) if item.bank else (0,))
            elif isinstance(item, Wait):
                self.visible = max(self.visible, self.log[-1].clock + item.cycles)
            else:
                self.close()


@pytest.mark.parametrize("grouped", [False, True])
@settings(max_examples=10, deadline=None)
@given(
    program=tiny,
    refresh=st.sampled_from([(0, False), (600, False), (150, True)]),
    postpone=st.sampled_from([0, 900]),
)
def test_programs_equal_plain_model(
    grouped: bool, program: tuple[Instruction, ...], refresh: tuple[int, bool], postpone: int
) -> None:
    device, (interval, per_bank) = "gddr6-pimgpt" if grouped else "gddr6-aim", refresh
    channel = aim(device, interval, postpone, slow=True, grouped=grouped, per_bank=per_bank)
    running = channel.start(log_size=4000)
    running.run(encode(program, channel.index))
    plain = Plain(device, interval, postpone, per_bank=per_bank, activates=4 if grouped else 1)
    plain.run(program)
    assert logged(running) == plain.log


@pytest.mark.parametrize("grouped", [False, True])
@settings(max_examples=12, deadline=None)
@given(program=small, refresh=st.sampled_from([(600, False), (1733, False), (150, True), (426, True)]))
def test_emitted_commands_are_legal(
    grouped: bool, program: tuple[Instruction, ...], refresh: tuple[int, bool]
) -> None:
    device, (interval, per_bank) = "gddr6-pimgpt" if grouped else "gddr6-aim", refresh
    channel = aim(device, interval, 0, slow=True, grouped=grouped, per_bank=per_bank)
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
