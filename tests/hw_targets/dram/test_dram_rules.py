"""The rules of each standard as one reads them in its data sheet: how long one command holds another back.

`earliest(device, [A, B], C)` issues A, B, … at bank 0 (or at the node that is named) as early as each may go,
then C, and gives the clocks from the last of them to C. That C could not have gone a clock before is asked of
an independent reader of the rules, `dram_legality.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from dram_legality import Logged, read_rules, violations

from tetrasim.hw_targets.common.dram.stream import Commands, issue
from tetrasim.hw_targets.common.dram.yaml_device import find_device, find_tables

Place = str | tuple[str, int]  # a command at bank 0, or at the bank of that number
READS = ["RD"] * 80  # long enough for every older command to be forgotten


def run(device: str, commands: Sequence[Place]) -> list[Logged]:
    """Issue clocks of `commands`, one after the other."""
    tables = find_tables(device)
    levels = [level.name for level in tables.device.levels]
    banks = tables.path[tables.nodes - tables.device.banks :]
    names, nodes = [], []
    for one in commands:
        name, bank = one if isinstance(one, tuple) else (one, 0)
        names.append(name)
        nodes.append(int(banks[bank][levels.index(tables.device.command(name).level)]))
    stream = Commands(
        np.array([tables.index(n) for n in names], np.int32),
        np.array(nodes, np.int32),
        np.zeros(len(nodes), np.int32),
    )
    where = [tuple(int(i) for i in tables.path[n] if i >= 0) for n in nodes]
    clocks = issue(stream, tables).tolist()
    return [Logged(c, n, at) for c, n, at in zip(clocks, names, where, strict=True)]


def earliest(device: str, before: Sequence[Place], then: Place) -> int:
    """Clocks from the last of `before` to the first at which `then` may go; not a clock sooner."""
    log = run(device, [*before, then])
    last, rules = log[-1], read_rules(device)
    assert violations(log, rules) == []
    sooner = Logged(last.clock - 1, last.command, last.address)
    assert violations([*log[:-1], sooner], rules), f"{last} could have gone a clock before"
    return last.clock - log[-2].clock


# Per standard: from an activation to a read, and from a refresh of all banks to an activation.
STANDARDS = {
    "ddr4": ("nRCD", "nRFC"),
    "ddr5": ("nRCD", "nRFC"),
    "gddr6": ("nRCDRD", "nRFCab"),
    "hbm2": ("nRCDRD", "nRFC"),
    "hbm3": ("nRCDRD", "nRFC"),
    "lpddr5": ("nRCD", "nRFC"),
}
# HBM2 takes two clocks for the row of an activation; its timings count from the second (JESD235).
LATE = {"hbm2": 1}


def timing(device: str, name: str) -> int:
    """A timing of the device file, in clocks."""
    found = find_device(device).timing
    return found[name]


def other_group(device: str) -> int:
    """A bank of the last bank group."""
    return find_device(device).banks - 1


@pytest.mark.parametrize("device", STANDARDS)
def test_a_bank_reads_trcd_after_it_was_opened(device: str) -> None:
    assert earliest(device, ["ACT"], "RD") == timing(device, STANDARDS[device][0]) + LATE.get(device, 0)


@pytest.mark.parametrize("device", STANDARDS)
def test_a_bank_closes_tras_after_it_was_opened(device: str) -> None:
    assert earliest(device, ["ACT"], "PREpb") == timing(device, "nRAS") + LATE.get(device, 0)


@pytest.mark.parametrize("device", STANDARDS)
def test_a_bank_opens_trp_after_it_was_closed(device: str) -> None:
    name = "nRPpb" if "nRPpb" in find_device(device).timing else "nRP"
    opened = timing(device, name) - LATE.get(device, 0)
    assert earliest(device, ["ACT", *READS, "PREpb"], "ACT") == opened


@pytest.mark.parametrize("device", STANDARDS)
def test_a_bank_closes_trtp_after_a_read(device: str) -> None:
    name = next(n for n in ("nRTP", "nRTPL", "nRBTP") if n in find_device(device).timing)
    more = timing(device, "nBLmin") if name == "nRBTP" else 0
    assert earliest(device, ["ACT", *READS], "PREpb") == timing(device, name) + more


@pytest.mark.parametrize("device", [d for d in STANDARDS if d != "lpddr5"])
def test_reads_of_one_group_are_tccdl_apart_and_of_two_groups_tccds(device: str) -> None:
    both: list[Place] = ["ACT", ("ACT", other_group(device)), *READS]
    assert earliest(device, both, "RD") == timing(device, "nCCDL")
    assert earliest(device, both, ("RD", other_group(device))) == timing(device, "nCCDS")


@pytest.mark.parametrize("device", STANDARDS)
def test_nothing_opens_until_trfc_after_a_refresh(device: str) -> None:
    opened = timing(device, STANDARDS[device][1]) - LATE.get(device, 0)
    assert earliest(device, ["REFab"], "ACT") == opened


@pytest.mark.parametrize("device", STANDARDS)
def test_the_fifth_bank_opens_tfaw_after_the_first(device: str) -> None:
    banks = find_device(device).banks
    apart = [("ACT", (i * (banks // 4) + i // 4) % banks) for i in range(5)]  # from group to group
    log = run(device, apart)
    between = log[1].clock - log[0].clock
    assert log[4].clock - log[0].clock == max(timing(device, "nFAW"), 4 * between)
