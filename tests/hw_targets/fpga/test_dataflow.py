"""The dataflow kernel equals a slow shift-register machine cycle for cycle; its depths hold."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from dataflow_reference import run_slowly
from random_networks import random_network

from tetrasim.hw_targets.fpga.dataflow.explain import explain
from tetrasim.hw_targets.fpga.dataflow.kernel import simulate
from tetrasim.hw_targets.fpga.dataflow.network import Actor, Fifo, Network, NetworkError, Port
from tetrasim.hw_targets.fpga.dataflow.occupancy import occupancies
from tetrasim.hw_targets.fpga.dataflow.sizing import full_speed, smallest

STATUS = {"done": 0, "deadlock": 1}


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**9), frames=st.integers(1, 3), largest=st.sampled_from([9, 9, 9, 24, 40]))
def test_kernel_equals_the_slow_machine(seed: int, frames: int, largest: int) -> None:
    network = random_network(seed, largest)
    status, cycles, starts, highest = run_slowly(network, frames)
    for skip in (False, True):
        run = simulate(network, frames, skip_idle=skip)
        assert run.status == STATUS[status]
        assert run.cycles == cycles
        assert list(run.highest) == highest
        for a, expected in enumerate(starts):
            got = [int(t) for t in run.start[run.offset[a] : run.offset[a + 1]] if t >= 0]
            assert got == expected


def test_random_networks_include_deadlocks() -> None:
    outcomes = [simulate(random_network(seed)).status for seed in range(200)]
    assert 20 < outcomes.count(1) < 180


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_a_deadlock_names_a_depth_that_runs(seed: int) -> None:
    network = random_network(seed)
    reason = explain(network, simulate(network), 1)
    if reason is None:
        return
    assert reason.waits
    if reason.depths:
        names = [f.name for f in network.fifos]
        depths = list(network.depths)
        for name, old, new in reason.depths:
            assert old == depths[names.index(name)] < new
            depths[names.index(name)] = new
        assert simulate(network.with_depths(tuple(depths))).status == 0
    else:
        assert simulate(network.with_depths(tuple(10_000 for _ in network.fifos))).status == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_smallest_depths_run_and_no_single_one_can_be_lowered(seed: int) -> None:
    network = random_network(seed)
    if simulate(network.with_depths(tuple(10_000 for _ in network.fifos))).status != 0:
        return
    speed = full_speed(network, 1)
    least = smallest(network, 1, slack_cycles=None)
    assert least.run.status == 0
    for f, depth in enumerate(least.network.depths):
        if depth > max(1, least.network.fifos[f].initial):
            depths = (*least.network.depths[:f], depth - 1, *least.network.depths[f + 1 :])
            assert simulate(least.network.with_depths(depths)).status == 1
    same = smallest(network, 1, slack_cycles=0)
    assert same.run.cycles <= speed.run.cycles


def _chain(depth: int) -> Network:
    source = Actor("source", 1, 1, 15, (), (Port(0, 0, 15), Port(1, 0, 15)))
    barrier = Actor("barrier", 1, 4, 30, (Port(0, 0, 15),), (Port(2, 15, 30),))
    join = Actor("join", 1, 1, 15, (Port(1, 0, 15), Port(2, 0, 15)), ())
    return Network((source, barrier, join), (Fifo("main", 2), Fifo("skip", depth), Fifo("late", 2)))


def test_a_residual_around_a_barrier_needs_as_many_slots_as_tokens() -> None:
    # measured on generated RTL: 15 tokens behind a barrier, depth 14 deadlocks, 15 runs
    stuck = _chain(14)
    reason = explain(stuck, simulate(stuck), 1)
    assert reason is not None
    assert reason.depths == (("skip", 14, 15),)
    assert "skip is full" in reason.text()
    assert simulate(_chain(15)).status == 0


def test_one_actor_takes_interval_and_latency_exactly() -> None:
    source = Actor("source", 1, 1, 4, (), (Port(0, 0, 4),))
    work = Actor("work", 3, 5, 4, (Port(0, 0, 4),), (Port(1, 0, 4),))
    sink = Actor("sink", 1, 1, 4, (Port(1, 0, 4),), ())
    run = simulate(Network((source, work, sink), (Fifo("in", 2), Fifo("out", 2))))
    # fires at 0, written at 1, readable at 2; firings 3 apart; 5 stages; readable one later
    assert list(run.start[run.offset[1] : run.offset[2]]) == [2, 5, 8, 11]
    assert list(run.start[run.offset[2] : run.offset[3]]) == [8, 11, 14, 17]


def test_verify_refuses_unbalanced_networks() -> None:
    a = Actor("a", 1, 1, 4, (), (Port(0, 0, 4),))
    b = Actor("b", 1, 1, 3, (Port(0, 0, 3),), ())
    with pytest.raises(NetworkError, match="4 tokens written, 3 read"):
        Network((a, b), (Fifo("f", 2),)).verify()


def test_latency_is_not_monotone_in_depth() -> None:
    # why depth search must not bisect: a deeper FIFO turns into a RAM, and pipelines freeze at other moments
    slower = 0
    for seed in range(300):
        network = random_network(seed)
        for f, depth in enumerate(network.depths):
            deeper = network.with_depths((*network.depths[:f], depth + 1, *network.depths[f + 1 :]))
            before, after = simulate(network), simulate(deeper)
            slower += before.status == after.status == 0 and after.cycles > before.cycles
    assert slower > 20


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), frames=st.integers(1, 3))
def test_occupancy_over_time_peaks_at_the_highest_and_ends_where_the_run_ends(seed: int, frames: int) -> None:
    network = random_network(seed)
    run = simulate(network, frames)
    for f, fifo in enumerate(occupancies(network, run, frames)):
        assert fifo.entries.max() == run.highest[f]
        assert fifo.entries[-1] == run.occupancy[f]
        assert (fifo.entries >= 0).all()
        assert (np.diff(fifo.cycle) > 0).all()
