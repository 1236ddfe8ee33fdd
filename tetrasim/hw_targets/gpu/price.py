"""Prices of single ops, as measured tables time them: replayed alone (see residency.py), per launch mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tetrasim.hw_targets.common.target import Prices
from tetrasim.hw_targets.gpu.config import GpuConfig, Launch
from tetrasim.hw_targets.gpu.costs import PARTS, kernel_costs
from tetrasim.hw_targets.gpu.unfused import unfused
from tetrasim.sim.ops.work import Work

_BOUND = {
    "kernel start": "launch",
    "compute": "compute",
    "tiles and waves": "compute",
    "memory": "memory",
    "imperfect overlap": "memory",
    "power cap": "power",
}


def price(works: Sequence[Work], config: GpuConfig) -> Prices:
    """Latency, energy and what bounds each op. Eager and stream modes add the host's cost per kernel: an op
    timed alone waits for its own launch."""
    kernels = [tuple(unfused(w, config)) for w in works]
    flat = [k for ks in kernels for k in ks]
    costs = kernel_costs(flat, config, None)
    owner = np.repeat(np.arange(len(works)), [len(ks) for ks in kernels])
    time = np.bincount(owner, costs.time_us, len(works))
    dynamic = np.bincount(owner, costs.energy_pj.sum(axis=1), len(works))
    part = np.stack([np.bincount(owner, costs.part_us[:, p], len(works)) for p in range(len(PARTS))], axis=1)
    launch = np.bincount(owner, minlength=len(works)).astype(np.float64) * _launch_us(config)
    latency = time + launch
    part[:, 0] = part[:, 0] + launch
    energy = dynamic * 1e-6 + latency * config.power.idle_w
    bound = tuple(_BOUND[PARTS[j]] for j in part.argmax(axis=1))
    return Prices(latency, energy, bound)


def _launch_us(config: GpuConfig) -> float:
    if config.launch is Launch.GRAPH:
        return 0.0
    eager = config.launch is Launch.EAGER
    return (config.host.eager_launch_s if eager else config.host.stream_launch_s) * 1e6
