"""How many SMs a kernel keeps busy, over time: the tracks of the timeline and the comparison of schedules.

Blocks go to SMs in rounds. A kernel of B blocks fills S SMs floor(B / S) times; its last round occupies B
mod S, each round taking equally long. Before its first round (kernel start) no SM works. That is what the
attention schedules differ in: a decode of 12 heads has 12 blocks without splitting, stream-K always one
wave. Streaming kernels have more rows than SMs; all are taken as busy.
"""

from __future__ import annotations

import numpy as np

from tetrasim.hw_targets.gpu.config import AttentionSchedule, GpuConfig
from tetrasim.hw_targets.gpu.costs import Costs, kernel_costs
from tetrasim.hw_targets.gpu.lower import priced_tasks
from tetrasim.hw_targets.gpu.parts import KERNEL_PARTS
from tetrasim.sim.engine.timeline import Counter, Timeline
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.work import Work, WorkKind
from tetrasim.sim.workload import Workload

Samples = list[tuple[int, int]]  # picoseconds, busy SMs from then on
COMPARED = (AttentionSchedule.FLASH2, AttentionSchedule.FLASH_DECODING, AttentionSchedule.LEAN)


def counters(graph: Graph, config: GpuConfig, timeline: Timeline) -> tuple[Counter, ...]:
    """Busy SMs over a run; then those of its first fused attention under each schedule, from the
    start of that attention on."""
    works, costs, kernel = priced_tasks(graph, config)
    samples: Samples = []
    found: list[Counter] = []
    for task in np.flatnonzero(kernel >= 0).tolist():
        row, start_ps = int(kernel[task]), int(timeline.start_ps[task])
        samples += profile(costs, row, start_ps, int(timeline.free_ps[task]), config.sm_count)
        if not found and works[row].kind is WorkKind.ATTENTION:
            found = [_under(s, works[row], start_ps, graph, config) for s in COMPARED]
    return (_counter("busy SMs", samples), *found)


def mapping_text(graph: Graph, config: GpuConfig, workload: Workload) -> str:
    """The first fused attention of the last run under each schedule: time, blocks, busy SMs."""
    works, _, _ = priced_tasks(graph, config)
    first = next((w for w in works if w.kind is WorkKind.ATTENTION), None)
    if first is None or first.attention is None:
        return "no fused attention in this graph: schedules differ in nothing else"
    a = first.attention
    lines = [
        f"attention in the last run, batch {workload.batch}: {a.q_len} queries on {a.kv_len} keys,",
        f"{a.heads} heads of {a.head_dim} ({a.kv_heads} of keys), {config.sm_count} SMs",
        f"{'schedule':15s} {'time us':>10s} {'blocks':>7s} {'mean busy SMs':>14s}",
    ]
    used = _alone(config.attention, first, graph, config)
    for schedule in COMPARED:
        costs = _alone(schedule, first, graph, config)
        time_ps = round(float(costs.time_us[0]) * 1e6)
        busy = _mean(profile(costs, 0, 0, time_ps, config.sm_count))
        mark = "  used" if (used.label, used.time_us[0]) == (costs.label, costs.time_us[0]) else ""
        lines.append(f"{schedule:15s} {time_ps * 1e-6:10.2f} {int(costs.blocks[0]):7d} {busy:14.1f}{mark}")
    return "\n".join(lines)


def profile(costs: Costs, row: int, start_ps: int, end_ps: int, sm_count: int) -> Samples:
    """Busy SMs of a kernel that runs from `start_ps` to `end_ps`."""
    blocks = int(costs.blocks[row])
    start_us = float(costs.part_us[row, KERNEL_PARTS.index("kernel start")])
    start_share = start_us / max(float(costs.time_us[row]), 1e-9)
    body_ps = start_ps + round(start_share * (end_ps - start_ps))
    if blocks % sm_count == 0:  # whole rounds, or a streaming kernel
        return [(start_ps, 0), (body_ps, sm_count), (end_ps, 0)]
    full, rest = divmod(blocks, sm_count)
    last_ps = body_ps + (end_ps - body_ps) * full // (full + 1)
    rounds: Samples = [(body_ps, sm_count)] if full else []
    return [(start_ps, 0), *rounds, (last_ps, rest), (end_ps, 0)]


def _under(
    schedule: AttentionSchedule, work: Work, start_ps: int, graph: Graph, config: GpuConfig
) -> Counter:
    costs = _alone(schedule, work, graph, config)
    end_ps = start_ps + round(float(costs.time_us[0]) * 1e6)
    samples = profile(costs, 0, start_ps, end_ps, config.sm_count)
    return _counter(f"busy SMs: first attention as {schedule}", samples, once=True)


def _alone(schedule: AttentionSchedule, work: Work, graph: Graph, config: GpuConfig) -> Costs:
    """One attention of the model under a schedule."""
    chosen = config.model_copy(update={"attention": schedule})
    return kernel_costs([work], chosen, graph.weight_bytes + graph.state_bytes)


def _counter(name: str, samples: Samples, once: bool = False) -> Counter:
    """Samples without repetition: the last value at a time holds."""
    at = dict(samples)
    times, values = list(at), list(at.values())
    kept = [i for i in range(len(at)) if i == 0 or values[i] != values[i - 1]]
    return Counter(name, "SMs", tuple(times[i] for i in kept), tuple(values[i] for i in kept), once)


def _mean(samples: Samples) -> float:
    times, values = np.array(samples, dtype=np.float64).T
    return float((values[:-1] * np.diff(times)).sum() / max(times[-1] - times[0], 1.0))
