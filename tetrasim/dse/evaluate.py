"""A candidate's metrics: simulate, read the totals, and (where asked) run the target's arithmetic on data.

Imported graphs are kept per model shape, so a sweep over target parameters only lowers and simulates; ONNX
exports and evaluations are cached on disk by content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tetrasim.dse.candidate import Candidate
from tetrasim.dse.graphs import load
from tetrasim.errors import CapacityError, UserError
from tetrasim.flow.phases import PhaseRun, capacity_of, lowered_phases, run_phases, settled
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    from tetrasim.hw_targets.common.target import Capacity, ResourceUse

OVERFLOW = "overflow"  # largest share of any memory or resource in use: above 1, it does not fit


@dataclass(frozen=True, slots=True)
class Outcome:
    """`metrics` by name; `note` says why there are none (the point cannot exist)."""

    metrics: dict[str, float]
    note: str = ""


def evaluate(candidate: Candidate) -> Outcome:
    """Simulate the candidate; a candidate that cannot run is an outcome with a note, not an error."""
    try:
        return Outcome(_metrics(candidate))
    except (CapacityError, UserError) as refusal:
        return Outcome({}, str(refusal).splitlines()[0])
    except (OverflowError, MemoryError) as failure:
        return Outcome({}, f"beyond what can be simulated: {failure}".splitlines()[0])


def _metrics(candidate: Candidate) -> dict[str, float]:
    model, workload = load(candidate), candidate.workload
    setup = settled(model, candidate.setup, workload)
    phases = lowered_phases(model, setup, workload)
    capacity = capacity_of(phases, setup)
    runs = run_phases(model, setup, workload)
    last = phases[-1][1].at(phases[-1][2][-1])
    uses = setup.target.resources(last, setup.config)
    zeros = _zeros(candidate.model.model_dump_json(), candidate.sparsity) if candidate.sparsity else 0
    out = {"parameters": float(model.parameters), "nonzero_parameters": float(model.parameters - zeros)}
    out |= time_metrics(runs, workload) | resource_metrics(capacity, uses)
    if candidate.groups:
        from tetrasim.dse.accuracy import accuracy_metrics, proxy_metrics

        if "accuracy" in candidate.groups:
            out |= accuracy_metrics(candidate)
        if "proxy" in candidate.groups:
            out |= proxy_metrics(model, load(replace(candidate, sparsity=0.0)), setup)
    return {name: value for name, value in out.items() if math.isfinite(value)}


def time_metrics(runs: Sequence[PhaseRun], workload: Workload) -> dict[str, float]:
    """Times and energies of the phases as run."""
    total_us = sum(int(r.totals.total_ps.sum()) for r in runs) / 1e6
    energy_mj = sum(float(r.totals.energy_pj.sum()) for r in runs) * 1e-9
    out = {"latency_us": total_us, "energy_mj": energy_mj, "energy_delay_mj_us": energy_mj * total_us}
    by_name = {r.name: r.totals for r in runs}
    if "prefill" in by_name:
        out["first_token_us"] = int(by_name["prefill"].total_ps.sum()) / 1e6
    if "decode" in by_name:
        steps = by_name["decode"].total_ps
        out["token_us"] = int(steps.sum()) / len(steps) / 1e6
        out["last_token_us"] = int(steps[-1]) / 1e6
    if workload.generate:
        tokens = workload.generate * workload.batch
        out["tokens_per_s"] = tokens / total_us * 1e6 if total_us else math.inf
        out["energy_per_token_mj"] = energy_mj / tokens
    return out


def resource_metrics(capacity: Capacity, uses: Sequence[ResourceUse]) -> dict[str, float]:
    """Memory and spatial resources, and the largest share of any of them."""
    out = {use.name.lower(): float(use.used) for use in uses}
    for use in uses:
        if use.unit == "mm2":
            out["area_mm2"] = float(use.used)
    out["weights_bytes"] = float(sum(m.weights_bytes for m in capacity.memories))
    out["memory_bytes"] = float(sum(m.used_bytes for m in capacity.memories))
    shares = [m.used_bytes / m.capacity_bytes for m in capacity.memories if m.capacity_bytes]
    shares += [u.used / u.available for u in uses if u.available]
    out[OVERFLOW] = max(shares, default=0.0)
    return out


@lru_cache(maxsize=1024)
def _zeros(config_json: str, sparsity: str | float) -> int:
    from tetrasim.export.exporter import parameter_shapes
    from tetrasim.models.config import ModelConfig
    from tetrasim.models.pruning import count_zeros, parse_sparsity

    shapes = parameter_shapes(ModelConfig.model_validate_json(config_json))
    return count_zeros(shapes, parse_sparsity(sparsity))
