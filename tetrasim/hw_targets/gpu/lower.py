"""Graph -> kernels -> a program on two resources: the host that launches and the GPU stream that runs.

Kernels run in stream order. In `graph` mode the host launches once per run; in `stream` and `eager` mode
every kernel also costs the host its launch, and the GPU waits whenever the host is behind: small kernels are
then launch bound, which the timeline shows as GPU tasks held by host tasks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache

import numpy as np

from tetrasim.hw_targets.gpu.capacity import streamed_bytes
from tetrasim.hw_targets.gpu.config import GpuConfig, Launch, Lengths, Packing
from tetrasim.hw_targets.gpu.costs import COMPONENTS, LEVELS, PARTS, Costs, kernel_costs
from tetrasim.hw_targets.gpu.expand import kernels_of_work, packs_per_layer
from tetrasim.hw_targets.gpu.fuse import Kernels, kernels_of
from tetrasim.hw_targets.gpu.packing import packed_works
from tetrasim.hw_targets.gpu.price import launch_us
from tetrasim.sim.engine.program import Block, Machine, Program, Resource, Task, assemble
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work

HOST_CLOCK_HZ = 1_000_000_000
_HOST_PART, _LINK_PART = "host launch", "host link"


def machine(config: GpuConfig) -> Machine:
    """Resources and vocabulary of the program."""
    return Machine(
        target="gpu",
        resources=(Resource("host", HOST_CLOCK_HZ, "host"), Resource("stream", config.clock_hz, "gpu")),
        part_names=(_HOST_PART, *PARTS, _LINK_PART),
        level_names=LEVELS,
        component_names=(*COMPONENTS, "idle"),
        static_power_w=(("idle", config.power.idle_w),),
    )


def lower(graph: Graph, config: GpuConfig) -> Program:
    """One task per kernel on the stream, preceded by its launch on the host where the mode has one."""
    batch = (config.fill, config.packing, config.lengths)
    fused = _kernels(graph, *batch, config.fusion and config.launch is not Launch.EAGER)
    resident = graph.weight_bytes + graph.state_bytes
    split = {w: tuple(kernels_of_work(w, config)) for w in dict.fromkeys(fused.work) if w is not None}
    sequences = [() if w is None else split[w] for w in fused.work]
    counted = Counter(w for s in sequences for w in s)
    unique = {w: i for i, w in enumerate(counted)}
    costs = kernel_costs(list(counted), config, resident, list(counted.values()))
    link = _link_ps_per_weight_byte(graph, config)
    idle = Block()
    launched: dict[Work | None, Block] = {None: idle}  # equal work shares its blocks: assembled once
    run: dict[Work | None, Block] = {None: idle}
    for work, parts in split.items():
        launches = () if config.launch is Launch.GRAPH else _launches(parts, config, first=False)
        launched[work] = Block(launches) if launches else idle
        run[work] = Block(tuple(_task(w, unique[w], costs, config, link, n > 0) for n, w in enumerate(parts)))
    blocks = [block for work in fused.work for block in (launched[work], run[work])]
    start = next((i for i, sequence in enumerate(sequences) if sequence), None)
    if config.launch is Launch.GRAPH and start is not None:
        blocks[2 * start] = Block(_launches(sequences[start], config, first=True))
    program = assemble(machine(config), blocks, _wiring(graph, packs_per_layer(config)))
    return replace(program, node=(program.node // 2).astype(np.int32))


@lru_cache(maxsize=512)
def _kernels(graph: Graph, fill: float, packing: Packing, lengths: Lengths, fusion: bool) -> Kernels:
    """The kernels of a graph, whatever the device costs them."""
    works = packed_works([work_of(node) for node in graph.nodes], fill, packing, lengths)
    found = kernels_of(graph, works, fusion)
    same: dict[Work, Work] = {}  # one object per content: looking it up later compares identities
    return Kernels(found.kernel_of, tuple(w if w is None else same.setdefault(w, w) for w in found.work))


@lru_cache(maxsize=512)
def _wiring(graph: Graph, host_waits: bool) -> tuple[tuple[int, ...], ...]:
    """Predecessors of two blocks per node: its launches and its kernels. Launches wait for nothing, except
    that a host that needs each layer's token count waits for the stream at its attention (`host_waits`)."""
    out: list[tuple[int, ...]] = []
    for i, before in enumerate(graph.predecessors):
        kernels = tuple(2 * p + 1 for p in before)
        waits = host_waits and work_of(graph.nodes[i]).attention is not None
        out += [kernels if waits else (), (2 * i, *kernels)]
    return tuple(out)


def _launches(kernels: tuple[Work, ...], config: GpuConfig, first: bool) -> tuple[Task, ...]:
    """Host tasks for `kernels`: one per kernel, or one for the whole graph in graph mode."""
    if not kernels or (config.launch is Launch.GRAPH and not first):
        return ()
    if config.launch is Launch.GRAPH:
        cycles = [round(config.host.stream_launch_s * HOST_CLOCK_HZ)]
    else:
        cycles = [round(launch_us(k, config) * 1e-6 * HOST_CLOCK_HZ) for k in kernels]
    name = "graph launch" if config.launch is Launch.GRAPH else "launch"
    return tuple(
        Task(name, "host", c, ((_HOST_PART, c),), after=(1,) if n else ()) for n, c in enumerate(cycles)
    )


def _task(work: Work, row: int, costs: Costs, config: GpuConfig, link_ps: float, chained: bool) -> Task:
    """One kernel; weights that live in host memory are streamed while it runs and stretch it."""
    ends = np.round(np.cumsum(costs.part_us[row]) * 1e-6 * config.clock_hz).astype(np.int64)
    parts = np.diff(ends, prepend=0)
    busy = int(ends[-1])
    link_cycles = round(work.weight_bytes * link_ps * 1e-12 * config.clock_hz)
    exposed = max(link_cycles - busy, 0)
    return Task(
        kind=costs.label[row],
        resource="stream",
        busy_cycles=busy + exposed,
        parts=(*((n, int(c)) for n, c in zip(PARTS, parts, strict=True) if c), (_LINK_PART, exposed)),
        after=(1,) if chained else (),
        level_bytes=tuple((n, round(float(b))) for n, b in zip(LEVELS, costs.level_bytes[row], strict=True)),
        energy_pj=tuple((n, float(e)) for n, e in zip(COMPONENTS, costs.energy_pj[row], strict=True) if e),
        macs=work.macs,
    )


def _link_ps_per_weight_byte(graph: Graph, config: GpuConfig) -> float:
    """Host-link time per weight byte: zero when the model is resident."""
    streamed = streamed_bytes(graph, config)
    if not streamed:
        return 0.0
    return streamed / graph.weight_bytes / config.host.link_bytes_per_s * 1e12
