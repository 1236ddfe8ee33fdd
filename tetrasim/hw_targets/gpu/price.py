"""Prices of single ops, as measured tables time them: replayed alone (see residency.py), per launch mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tetrasim.hw_targets.common.target import Prices
from tetrasim.hw_targets.gpu.config import GpuConfig, Launch
from tetrasim.hw_targets.gpu.costs import kernel_costs
from tetrasim.hw_targets.gpu.expand import kernels_of_work
from tetrasim.hw_targets.gpu.parts import KERNEL_PARTS
from tetrasim.sim.ops.work import Work, WorkKind

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
    kernels = [tuple(kernels_of_work(w, config)) for w in works]
    flat = [k for ks in kernels for k in ks]
    costs = kernel_costs(flat, config, None)
    owner = np.repeat(np.arange(len(works)), [len(ks) for ks in kernels])
    time = np.bincount(owner, costs.time_us, len(works)).astype(np.float64)
    dynamic = np.bincount(owner, costs.energy_pj.sum(axis=1), len(works))
    part = np.zeros((len(works), len(KERNEL_PARTS)))
    np.add.at(part, owner, costs.part_us)
    launch = np.bincount(owner, np.array([launch_us(k, config) for k in flat]), len(works)).astype(np.float64)
    latency = time + launch
    part[:, 0] = part[:, 0] + launch
    energy = dynamic * 1e-6 + latency * config.power.idle_w
    bound = tuple(_BOUND[KERNEL_PARTS[j]] for j in part.argmax(axis=1))
    return Prices(latency, energy, bound)


def launch_us(work: Work, config: GpuConfig) -> float:
    """Host time per kernel, us; none inside a graph."""
    host = config.host
    product = work.kind is WorkKind.GEMM
    if config.launch is Launch.GRAPH:
        return 0.0
    if config.launch is Launch.EAGER:
        return 1e6 * (host.eager_product_s if product else host.eager_launch_s)
    if not product:
        return 1e6 * host.stream_launch_s
    search_s = 0.0 if config.tuned_products else host.search_s
    return 1e6 * ((host.stream_product_s or host.stream_launch_s) + search_s)
