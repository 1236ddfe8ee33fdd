"""Timing in rounds: the best of many visits, what has settled, what met no quiet round, other programs."""

from __future__ import annotations

import time
from itertools import chain, repeat

import pytest

from tetrasim.hw_targets.cpu.calibration import rounds
from tetrasim.hw_targets.cpu.calibration.hostinfo import read_host
from tetrasim.hw_targets.cpu.calibration.machine_probes import machine_probes, reference_kernel
from tetrasim.hw_targets.cpu.calibration.rounds import OtherLoad, Probe, drift_of, time_in_rounds


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel says itself how many seconds it took."""
    monkeypatch.setattr(rounds, "_seconds", lambda run: run())


@pytest.mark.usefixtures("scripted")
def test_a_probe_that_starts_in_a_slow_phase_is_fast_in_the_end() -> None:
    phases = chain([3e-3] * 12, repeat(1e-3))
    found = time_in_rounds([Probe("k", lambda: next(phases), 0.0)], lambda: 1e-5, budget_s=0.05)
    assert found.best_s == {"k": 1e-3}
    assert not found.unsettled


@pytest.mark.usefixtures("scripted")
def test_only_probes_that_have_not_settled_are_visited_to_the_end() -> None:
    steady, falling = [0], [0]

    def even() -> float:
        steady[0] += 1
        return 1e-3

    def never_twice_the_same() -> float:
        falling[0] += 1
        return 1e-3 / 1.1 ** falling[0]

    probes = [Probe("even", even, 0.0), Probe("falling", never_twice_the_same, 0.0)]
    found = time_in_rounds(probes, lambda: 1e-5, budget_s=0.05)
    assert found.unsettled == {"falling"}
    assert falling[0] > 1.2 * steady[0]


@pytest.mark.usefixtures("scripted")
def test_a_best_time_beside_a_slow_reference_is_not_settled() -> None:
    reference = chain([1e-5] * 20, repeat(2e-5))
    times = chain([3e-3] * 5, repeat(1e-3))
    found = time_in_rounds(
        [Probe("k", lambda: next(times), 0.0, warm=False)], lambda: next(reference), budget_s=0.02
    )
    assert found.unsettled == {"k"}
    assert found.drift.slow_share > 0.5


def test_several_threads_without_a_quiet_round_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = [Probe("one", lambda: None, 0.0), Probe("four", lambda: None, 0.0, threads=4)]
    monkeypatch.setattr(OtherLoad, "cores", lambda _self: 2.0)
    busy = time_in_rounds(probes, lambda: None, budget_s=0.1)
    assert busy.disturbed == {"four"}
    assert busy.other_cores == 2.0
    monkeypatch.setattr(OtherLoad, "cores", lambda _self: 0.1)
    assert time_in_rounds(probes, lambda: None, budget_s=0.1).disturbed == frozenset()


def test_own_work_is_not_other_load(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter((100.0, 101.5))
    own = iter((7.0, 7.5))
    clock = iter((0.0, 2.0))
    monkeypatch.setattr(rounds, "_busy_s", lambda: next(busy))
    monkeypatch.setattr(time, "process_time", lambda: next(own))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert OtherLoad().cores() == pytest.approx(0.5)  # 1 s of 2 s


def test_drift_compares_a_kernel_with_its_own_best() -> None:
    found = drift_of([1.0, 1.02, 1.04, 2.0, 3.0])
    assert (found.best_s, found.median_slowdown, found.slow_share) == (1.0, 1.04, 0.4)


def test_machine_probes_run() -> None:
    for probe in machine_probes(read_host(), 1)[:2]:
        probe.run()
    assert rounds.visit(Probe("reference", reference_kernel(), 0.0)) < 0.1
