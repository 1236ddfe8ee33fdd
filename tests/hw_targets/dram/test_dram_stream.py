"""The in-order engine equals a per-cycle loop that looks every rule up in the whole history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dram_legality import Logged, read_rules, violations
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.refresh import Refresh, RefreshMode
from tetrasim.hw_targets.common.dram.stream import Commands, Requests, issue, open_page, run_requests
from tetrasim.hw_targets.common.dram.tables import Tables
from tetrasim.hw_targets.common.dram.yaml_device import find_tables

STANDARD = ("gddr6", "hbm2", "ddr4", "ddr5", "lpddr5", "hbm3")


def address(tables: Tables, node: int) -> tuple[int, ...]:
    return tuple(int(n) for n in tables.path[node] if n >= 0)


def per_cycle(commands: Commands, tables: Tables) -> list[int]:
    """One clock at a time; a command issues when no rule against the whole history is broken."""
    rules = read_rules(tables.device.name)
    log: list[Logged] = []
    clock = -1
    for c, node in zip(commands.command, commands.node, strict=True):
        clock += 1
        name, at = tables.names[c], address(tables, node)
        while violations([*log[-60:], Logged(clock, name, at)], rules):
            clock += 1
        log.append(Logged(clock, name, at))
    return [entry.clock for entry in log]


requests = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2), st.booleans()), min_size=1, max_size=14)


@pytest.mark.parametrize("device", STANDARD)
@settings(max_examples=6, deadline=None)
@given(drawn=requests, every=st.integers(0, 6))
def test_equals_per_cycle_reference(device: str, drawn: list[tuple[int, int, bool]], every: int) -> None:
    tables = find_tables(device)
    banks = tables.device.banks
    stream = Requests(
        np.array([b % banks for b, _, _ in drawn], dtype=np.int32),
        np.array([r for _, r, _ in drawn], dtype=np.int32),
        np.array([w for _, _, w in drawn]),
        every,
    )
    commands = open_page(stream, tables)
    assert issue(commands, tables).tolist() == per_cycle(commands, tables)


class PerCycle:
    """An open-page front end with refresh in time, one clock at a time."""

    def __init__(self, device: str, refresh: Refresh) -> None:
        self.tables, self.rules, self.refresh = find_tables(device), read_rules(device), refresh
        self.log: list[Logged] = []
        self.opened: dict[int, int] = {}
        self.turn = 0

    def put(self, name: str, bank: int) -> None:
        t = self.tables
        at = address(t, t.node() if bank < 0 else t.nodes - t.device.banks + bank)
        clock = self.log[-1].clock + 1 if self.log else 0
        while violations([*self.log[-60:], Logged(clock, name, at)], self.rules):
            clock += 1
        self.log.append(Logged(clock, name, at))

    def refresh_once(self) -> None:
        if self.refresh.mode is RefreshMode.PER_BANK:
            if self.opened.pop(self.turn, None) is not None:
                self.put("PREpb", self.turn)
            self.put("REFpb", self.turn)
            self.turn = (self.turn + 1) % self.tables.device.banks
        else:
            if self.opened:
                self.put("PREab", -1)
            self.opened.clear()
            self.put("REFab", -1)

    def run(self, drawn: list[tuple[int, int, bool]]) -> list[tuple[int, str]]:
        served = 0
        for bank, row, write in drawn:
            while self.refresh.interval:
                owed = (self.log[-1].clock + 1 if self.log else 0) // self.refresh.interval - served
                if owed == 0 or (self.opened.get(bank) == row and owed <= self.refresh.postpone):
                    break
                self.refresh_once()
                served += 1
            if self.opened.get(bank, row) != row:
                self.put("PREpb", bank)
            if self.opened.get(bank) != row:
                self.put("ACT", bank)
            self.opened[bank] = row
            self.put("WR" if write else "RD", bank)
        return [(entry.clock, entry.command) for entry in self.log]


@settings(max_examples=25, deadline=None)
@given(
    drawn=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 1), st.booleans()), min_size=1, max_size=40),
    device=st.sampled_from(["gddr6", "hbm2", "lpddr5"]),
    refresh=st.sampled_from(
        [
            Refresh(RefreshMode.ALL_BANK, 450),
            Refresh(RefreshMode.ALL_BANK, 300, 2),
            Refresh(RefreshMode.PER_BANK, 130),
            Refresh(RefreshMode.PER_BANK, 90, 4),
        ]
    ),
)
def test_refresh_in_time_equals_per_cycle(
    drawn: list[tuple[int, int, bool]], device: str, refresh: Refresh
) -> None:
    commands, clocks = run_requests(as_requests(drawn), find_tables(device), refresh)
    names = find_tables(device).names
    got = [(int(t), names[c]) for t, c in zip(clocks, commands.command, strict=True)]
    assert got == PerCycle(device, refresh).run(drawn)


def as_requests(drawn: list[tuple[int, int, bool]]) -> Requests:
    bank, row, write = zip(*drawn, strict=True)
    return Requests(np.array(bank, np.int32), np.array(row, np.int32), np.array(write))


def test_per_bank_refresh_by_requests() -> None:
    """Every second request one bank in turn is refreshed; only an open one is closed before."""
    tables = find_tables("gddr6")
    requests = as_requests([(0, 0, False), (1, 0, False), (4, 0, False), (5, 0, False), (6, 0, False)])
    commands = open_page(replace(requests, refresh_every=2, refresh_mode=RefreshMode.PER_BANK), tables)
    first = tables.nodes - tables.device.banks
    got = [(tables.names[c], int(n) - first) for c, n in zip(commands.command, commands.node, strict=True)]
    assert [g for g in got if g[0] in ("PREpb", "REFpb")] == [
        ("PREpb", 0), ("REFpb", 0), ("PREpb", 1), ("REFpb", 1),
    ]  # fmt: skip
    log = [Logged(int(t), tables.names[c], address(tables, n)) for t, c, n in
           zip(issue(commands, tables), commands.command, commands.node, strict=True)]  # fmt: skip
    assert violations(log, read_rules("gddr6")) == []


def test_refresh_that_leaves_no_time_is_refused() -> None:
    with pytest.raises(UserError, match="falls due every 200"):
        run_requests(as_requests([(0, 0, False)]), find_tables("gddr6"), Refresh(RefreshMode.ALL_BANK, 200))


def test_four_activate_window() -> None:
    """A fifth activate waits for nFAW after the first: not ready at clk - 1, ready at clk."""
    tables = find_tables("gddr6")
    act = tables.index("ACT")
    nodes = [tables.node(g, 0) for g in range(4)] + [tables.node(0, 1)]
    commands = Commands(
        np.full(5, act, dtype=np.int32), np.array(nodes, dtype=np.int32), np.zeros(5, dtype=np.int32)
    )
    clocks = issue(commands, tables).tolist()
    timing = tables.device.timing
    assert clocks == [0, 11, 22, 33, max(44, timing["nFAW"])]
    spread = {**timing, "nRRDS": 4, "nRRDL": 4}
    log = [Logged(4 * i, "ACT", address(tables, n)) for i, n in enumerate(nodes[:4])]
    rules = read_rules("gddr6", spread)
    early = Logged(timing["nFAW"] - 1, "ACT", address(tables, nodes[4]))
    assert violations([*log, early], rules)
    assert not violations([*log, Logged(timing["nFAW"], "ACT", early.address)], rules)
