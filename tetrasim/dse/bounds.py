"""What a candidate can reach at best, without simulating it: the cheap first fidelity of a screened search.

A run cannot be faster than its arithmetic at the device's peak, nor than reading every weight that it touches
once over the fastest memory level. It takes no less energy than the power that flows all the time over that
time, and what the target says that its multiply-adds and weights cost at least (`Target.least_energy`).
Resources are what the target counts; costs follow from time and energy. Metrics without a bound (accuracy)
take the best value that exists, so that a screened point is dominated for certain, whatever its simulation
says.
"""

from __future__ import annotations

import math
from functools import lru_cache

from tetrasim.dse.candidate import Candidate
from tetrasim.dse.evaluate import resource_metrics
from tetrasim.dse.graphs import load
from tetrasim.dse.metrics import METRICS
from tetrasim.dse.prices import cost_metrics
from tetrasim.dse.space import StudySpec
from tetrasim.flow.phases import capacity_of, lowered_phases, settled
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of

# Peaks are data-sheet numbers, rounded to whole cycles and prefixes: a bound must not hang on that.
SLACK = 0.99
_BEST = {"accuracy": 1.0, "proxy_top1": 1.0, "proxy_cosine": 1.0}


def optimistic(candidate: Candidate, spec: StudySpec, target: str) -> tuple[float, ...]:
    """The objectives at their best, as values to minimise; `target` as the study names it.

    Raises:
        UserError: the candidate cannot run at all.
    """
    known = run_bounds(candidate)
    known |= cost_metrics(spec, target, candidate.workload, known)
    sources = {METRICS[m].source for m in spec.objectives}
    if "resource" in sources:
        setup = settled(load(candidate), candidate.setup, candidate.workload)
        phases = lowered_phases(load(candidate), setup, candidate.workload)
        last = phases[-1][1].at(phases[-1][2][-1])
        uses = setup.target.resources(last, setup.config)
        known |= resource_metrics(capacity_of(phases, setup), uses)
    known["parameters"] = float(load(candidate).parameters)
    return tuple(_signed(name, known) for name in spec.objectives)


def _signed(name: str, known: dict[str, float]) -> float:
    if METRICS[name].maximise:
        return -known.get(name, _BEST.get(name, math.inf))
    return known.get(name, 0.0)


def run_bounds(candidate: Candidate) -> dict[str, float]:
    """Least microseconds of the run, its prefill and a token; most tokens per second; least energy."""
    setup = candidate.setup
    peaks = setup.target.peaks(setup.config)
    widest = max((rate for _, rate in peaks.bytes_per_s), default=math.inf)
    out: dict[str, float] = {}
    total_us = energy_mj = 0.0
    for phase, family, contexts in lowered_phases(load(candidate), setup, candidate.workload):
        graph = family.at(contexts[0])  # the shortest context: later steps only do more
        macs, weight_bytes = _amounts(graph)
        run_s = SLACK * max(macs / peaks.macs_per_s, weight_bytes / widest)
        total_us += 1e6 * run_s * len(contexts)
        if setup.target.least_energy is not None:
            floor = setup.target.least_energy(graph, setup.config)
            run_mj = floor.power_w * run_s * 1e3 + SLACK * floor.energy_pj * 1e-9
            energy_mj += run_mj * len(contexts)
        if phase.name == "prefill":
            out["first_token_us"] = 1e6 * run_s
        elif phase.name == "decode":
            out["token_us"] = out["last_token_us"] = 1e6 * run_s
    out |= {"latency_us": total_us, "energy_mj": energy_mj, "energy_delay_mj_us": energy_mj * total_us}
    tokens = candidate.workload.generate * candidate.workload.batch
    if tokens and total_us:
        out["tokens_per_s"] = tokens / total_us * 1e6
    if tokens:
        out["energy_per_token_mj"] = energy_mj / tokens
    return out


@lru_cache(maxsize=256)
def _amounts(graph: Graph) -> tuple[int, int]:
    """Multiply-adds, and bytes of weights that are touched."""
    works = [work_of(node) for node in graph.nodes]
    return sum(w.macs for w in works), sum(w.weight_bytes for w in works)
