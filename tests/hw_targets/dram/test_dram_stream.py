"""The in-order engine equals a per-cycle loop that looks every rule up in the whole history."""

from __future__ import annotations

import numpy as np
import pytest
from dram_legality import Logged, read_rules, violations
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.hw_targets.common.dram.stream import Commands, Requests, issue, open_page
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
