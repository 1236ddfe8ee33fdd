"""Timing in rounds: the best of many visits, what has settled, what met no quiet round, other programs."""

from __future__ import annotations

import time

import pytest

from tetrasim.hw_targets.cpu.calibration import rounds
from tetrasim.hw_targets.cpu.calibration.hostinfo import read_host
from tetrasim.hw_targets.cpu.calibration.machine_probes import machine_probes, reference_kernel
from tetrasim.hw_targets.cpu.calibration.rounds import OtherLoad, Probe, drift_of, time_in_rounds


class Phases:
    """A kernel that takes 1 ms, and 3 ms in a slow phase of the machine."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> None:
        self.runs += 1
        slow = self.runs <= 12
        until = time.perf_counter() + (0.003 if slow else 0.001)
        while time.perf_counter() < until:
            pass


def test_a_probe_that_starts_in_a_slow_phase_is_visited_until_it_is_fast() -> None:
    kernel = Phases()
    found = time_in_rounds([Probe("k", kernel, visit_s=0.002)], lambda: None, budget_s=0.3)
    assert found.best_s["k"] == pytest.approx(0.001, rel=0.2)
    assert found.rounds > 6


def test_settled_probes_are_left_alone_when_most_of_the_time_is_spent() -> None:
    steady, wild = [0], [0]

    def even() -> None:
        steady[0] += 1
        time.sleep(0.002)

    def never_twice_the_same() -> None:
        wild[0] += 1
        time.sleep(0.002 / wild[0] + 1e-5)

    probes = [Probe("even", even, 0.0), Probe("wild", never_twice_the_same, 0.0)]
    found = time_in_rounds(probes, lambda: None, budget_s=0.3)
    assert found.best_s["wild"] < found.best_s["even"]
    assert wild[0] >= steady[0]


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
