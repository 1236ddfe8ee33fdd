"""What a candidate can reach at best, without simulating it: the cheap first fidelity of a screened search.

A run cannot be faster than its arithmetic at the device's peak, nor than reading every weight once over the
fastest memory level; resources are what the target counts. Metrics without a bound (energy, accuracy) take
the best value that exists, so that a screened point is dominated for certain, whatever its simulation says.
"""

from __future__ import annotations

import math

from tetrasim.dse.candidate import Candidate
from tetrasim.dse.evaluate import load, resource_metrics
from tetrasim.dse.metrics import METRICS
from tetrasim.dse.space import StudySpec
from tetrasim.flow.run_phases import capacity_of, lowered_phases
from tetrasim.sim.ops.registry import work_of

# Peaks are data-sheet numbers, rounded to whole cycles and prefixes: a bound must not hang on that.
SLACK = 0.99
_BEST = {"accuracy": 1.0, "proxy_top1": 1.0, "proxy_cosine": 1.0}


def optimistic(candidate: Candidate, spec: StudySpec) -> tuple[float, ...]:
    """The objectives at their best, as values to minimise.

    Raises:
        UserError: the candidate cannot run at all.
    """
    known = time_bounds(candidate)
    sources = {METRICS[m].source for m in spec.objectives}
    if "resource" in sources:
        phases = lowered_phases(load(candidate), candidate.setup, candidate.workload)
        last = phases[-1][1].at(phases[-1][2][-1])
        setup = candidate.setup
        uses = setup.target.resources(last, setup.config)
        known |= resource_metrics(capacity_of(phases, setup), uses)
    known["parameters"] = float(load(candidate).parameters)
    return tuple(_signed(name, known) for name in spec.objectives)


def _signed(name: str, known: dict[str, float]) -> float:
    if METRICS[name].maximise:
        return -known.get(name, _BEST.get(name, math.inf))
    return known.get(name, 0.0)


def time_bounds(candidate: Candidate) -> dict[str, float]:
    """Least microseconds of the run, its prefill and a token; most tokens per second."""
    peaks = candidate.setup.target.peaks(candidate.setup.config)
    widest = max((rate for _, rate in peaks.bytes_per_s), default=math.inf)
    out, total_us = {}, 0.0
    phases = lowered_phases(load(candidate), candidate.setup, candidate.workload)
    for phase, family, contexts in phases:
        graph = family.at(contexts[0])  # the shortest context: later steps only do more
        macs = sum(work_of(node).macs for node in graph.nodes)
        run_s = SLACK * max(macs / peaks.macs_per_s, graph.weight_bytes / widest)
        total_us += 1e6 * run_s * len(contexts)
        if phase.name == "prefill":
            out["first_token_us"] = 1e6 * run_s
        elif phase.name == "decode":
            out["token_us"] = out["last_token_us"] = 1e6 * run_s
    out["latency_us"] = total_us
    tokens = candidate.workload.generate * candidate.workload.batch
    if tokens and total_us:
        out["tokens_per_s"] = tokens / total_us * 1e6
    return out
