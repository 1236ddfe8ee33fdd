"""A candidate's metrics: simulate, read the totals, and (where asked) run the target's arithmetic on data.

Imported graphs are kept per model shape, so a sweep over target parameters only lowers and simulates; ONNX
exports and evaluations are cached on disk by content.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tetrasim.dse.candidate import Candidate
from tetrasim.errors import CapacityError, UserError
from tetrasim.flow.run_phases import LoadedModel, PhaseRun, capacity_of, lowered_phases, run_phases
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    model, setup, workload = load(candidate), candidate.setup, candidate.workload
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


def load(candidate: Candidate) -> LoadedModel:
    """The candidate's graphs, imported once per shape and workload."""
    return _load(exported_folder(candidate), candidate.workload)


@lru_cache(maxsize=128)
def _load(folder: Path, workload: Workload) -> LoadedModel:
    from tetrasim.flow.loading import check_workload, find_model, load_model

    files = find_model(folder)
    model = load_model(files, check_workload(files, workload))
    gc.freeze()  # the graphs stay for the whole search: the collector need not walk them after every point
    return model


def exported_folder(candidate: Candidate) -> Path:
    """The ONNX export of the candidate's model, from the cache where it has been made before."""
    sparsity = candidate.sparsity if candidate.groups else 0.0  # times and resources do not read the weights
    text = candidate.model.model_dump_json()
    return _exported(text, candidate.trained_steps, bool(candidate.groups), sparsity)


@lru_cache(maxsize=1024)
def _zeros(config_json: str, sparsity: str | float) -> int:
    from tetrasim.export.exporter import parameter_shapes
    from tetrasim.models.config import ModelConfig
    from tetrasim.models.pruning import count_zeros, parse_sparsity

    shapes = parameter_shapes(ModelConfig.model_validate_json(config_json))
    return count_zeros(shapes, parse_sparsity(sparsity))


@lru_cache(maxsize=1024)
def _exported(config_json: str, trained_steps: int, weights: bool, sparsity: str | float) -> Path:
    from tetrasim.export.exporter import export_model
    from tetrasim.models.config import ModelConfig

    config = ModelConfig.model_validate_json(config_json)
    source: Mapping[str, NDArray[np.float32]] | Literal["auto", "none"] = "auto" if weights else "none"
    try:
        if sparsity:
            from tetrasim.dse.accuracy import sparse_weights

            source = sparse_weights(config, trained_steps, sparsity)
        elif trained_steps >= 0:
            from tetrasim.dse.accuracy import trained_weights

            source = trained_weights(config, trained_steps)
        return export_model(config, weights=source, check=False).folder
    except (RuntimeError, OverflowError, MemoryError) as failure:  # torch, of dims beyond all bounds
        raise UserError(f"'{config.name}' cannot be exported: {failure}".splitlines()[0]) from None
