"""Graph -> kernels -> a program on two resources: the host that launches and the GPU stream that runs.

Kernels run in stream order. In `graph` mode the host launches once per run; in `stream` and `eager` mode
every kernel also costs the host its launch, and the GPU waits whenever the host is behind: small kernels are
then launch bound, which the timeline shows as GPU tasks held by host tasks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.parts import part_names
from tetrasim.hw_targets.common.target import Aspect
from tetrasim.hw_targets.gpu.capacity import streamed_bytes
from tetrasim.hw_targets.gpu.config import Fusion, GpuConfig, Launch, Lengths, Packing
from tetrasim.hw_targets.gpu.costs import COMPONENTS, LEVELS, Costs, kernel_costs, unpriced
from tetrasim.hw_targets.gpu.expand import kernels_of_work, packing_once, packs_per_layer
from tetrasim.hw_targets.gpu.fuse import Kernels, kernels_of
from tetrasim.hw_targets.gpu.packing import packed_works
from tetrasim.hw_targets.gpu.parts import PARTS
from tetrasim.hw_targets.gpu.price import launch_us
from tetrasim.hw_targets.gpu.sharing import Shared, shared_of, sharing_of
from tetrasim.sim.engine.program import Columns, Machine, Order, Program, Resource, join, order_of
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOST_CLOCK_HZ = 1_000_000_000


def stream_clock_hz(config: GpuConfig) -> int:
    """The SM clock that kernels run at."""
    return config.running_clock_hz or config.clock_hz


def machine(config: GpuConfig) -> Machine:
    """Resources and vocabulary of the program."""
    return Machine(
        target="gpu",
        resources=(
            Resource("host", HOST_CLOCK_HZ, "host"),
            Resource("stream", stream_clock_hz(config), "gpu"),
        ),
        part_names=part_names(PARTS),
        level_names=LEVELS,
        component_names=(*COMPONENTS, "idle"),
        static_power_w=(("idle", config.power.idle_w),),
    )


def lower(graph: Graph, config: GpuConfig) -> Program:
    """One task per kernel on the stream, preceded by its launch on the host where the mode has one."""
    split = _split(graph, unpriced(config))
    resident = graph.weight_bytes + graph.state_bytes
    costs = kernel_costs(split.works, config, resident, split.counts)
    program = join(machine(config), _columns(split, costs, graph, config), split.order)
    return replace(program, sharing=sharing_of(split.shared, costs, config))


def priced_tasks(graph: Graph, config: GpuConfig) -> tuple[tuple[Work, ...], Costs, NDArray[np.int64]]:
    """The distinct kernels of a graph, their costs, and which of them each task of `lower`'s program runs
    (-1: a launch)."""
    split = _split(graph, unpriced(config))
    costs = kernel_costs(split.works, config, graph.weight_bytes + graph.state_bytes, split.counts)
    ends = np.cumsum(split.lengths)
    runs = np.where(split.launches, -1, split.kernel)
    pieces = [runs[ends[place] - split.lengths[place] : ends[place]] for place in split.order.places]
    return split.works, costs, np.concatenate([np.zeros(0, dtype=np.int64), *pieces])


def kernel_of_node(graph: Graph, node: int, config: GpuConfig) -> tuple[Work, ...]:
    """The kernels that node `node` runs in, with the work of all nodes that share them; none for views."""
    fused = _kernels(graph, unpriced(config))
    host = next(
        (i for i, pieces in enumerate(fused.pieces) if fused.work[i] is not None and node in dict(pieces)), -1
    )
    return () if host < 0 else _sequences(fused, config)[0][host]


@dataclass(frozen=True, eq=False)
class _Split:
    """A graph as kernels and launches, whatever each takes: R distinct kernels, U distinct tasks in blocks.

    Block 0 is empty; every distinct node has a block of its kernels and, but in graph mode, one of their
    launches, each task after the one before it. In graph mode one block launches the whole run."""

    works: tuple[Work, ...]  # [R]
    counts: tuple[int, ...]  # [R] how often the graph runs each
    lengths: tuple[int, ...]  # tasks of each block
    kernel: NDArray[np.int64]  # [U] that the task runs or launches
    launches: NDArray[np.bool_]  # [U]
    waits: NDArray[np.bool_]  # [U] launches by a host that first waits for the device
    after: tuple[tuple[int, ...], ...]  # [U]
    macs: NDArray[np.int64]  # [R]
    weight_bytes: NDArray[np.float64]  # [R]
    order: Order
    shared: Shared | None  # the ops of kernels of several nodes


@lru_cache(maxsize=512)
def _split(graph: Graph, used: Aspect[GpuConfig]) -> _Split:
    fused = _kernels(graph, used)
    sequences, waiting = _sequences(fused, used.config)
    in_graph = used.config.launch is Launch.GRAPH
    counted = Counter(k for sequence in sequences for k in sequence)
    index = {k: i for i, k in enumerate(counted)}
    blocks: dict[tuple[bool, bool, tuple[Work, ...]], int] = {
        (True, False, ()): 0
    }  # launches, waits, kernels
    places = []
    for i, sequence in enumerate(sequences):
        launched = (True, False, ()) if in_graph or not sequence else (True, i in waiting, sequence)
        run = (False, False, sequence) if sequence else (True, False, ())
        places += [blocks.setdefault(block, len(blocks)) for block in (launched, run)]
    first = next((i for i, sequence in enumerate(sequences) if sequence), None)
    if in_graph and first is not None:
        places[2 * first] = blocks.setdefault((True, False, sequences[first][:1]), len(blocks))
    tasks = [(launches, waits and n == 0, k) for launches, waits, ks in blocks for n, k in enumerate(ks)]
    wiring = _wiring(graph.predecessors, frozenset() if in_graph else waiting)
    return _Split(
        tuple(counted),
        tuple(counted.values()),
        tuple(len(kernels) for _, _, kernels in blocks),
        np.array([index[k] for _, _, k in tasks], dtype=np.int64),
        np.array([launches for launches, _, _ in tasks], dtype=np.bool_),
        np.array([waits for _, waits, _ in tasks], dtype=np.bool_),
        tuple(((1,) if n else ()) for _, _, kernels in blocks for n in range(len(kernels))),
        np.array([k.macs for k in counted], dtype=np.int64),
        np.array([k.weight_bytes for k in counted], dtype=np.float64),
        order_of(tuple(places), wiring, tuple(i // 2 for i in range(len(places)))),
        shared_of(fused, index, used.config),
    )


def _sequences(fused: Kernels, config: GpuConfig) -> tuple[list[tuple[Work, ...]], frozenset[int]]:
    """The kernels of every node, and the nodes before which the host waits for the number of packed tokens:
    every attention, or the first one, which then runs the kernels that count and gather; those that spread
    the tokens again follow the last kernel of the run."""
    split = {w: tuple(kernels_of_work(w, config)) for w in dict.fromkeys(fused.work) if w is not None}
    sequences = [() if w is None else split[w] for w in fused.work]
    packed = [i for i, w in enumerate(fused.work) if config.fill < 1.0 and w is not None and _is_prefill(w)]
    if packs_per_layer(config) or not packed:
        return sequences, frozenset(packed)
    at, last = packed[0], max(i for i, sequence in enumerate(sequences) if sequence)
    first = fused.work[at]
    assert first is not None
    before, after = packing_once(first, config.fill)
    sequences[at] = (*before, *sequences[at])
    sequences[last] = (*sequences[last], after)
    return sequences, frozenset(packed[:1])


def _is_prefill(work: Work) -> bool:
    return work.attention is not None and work.attention.q_len > 1


def _columns(split: _Split, costs: Costs, graph: Graph, config: GpuConfig) -> Columns:
    """The distinct tasks priced; weights that live in host memory are streamed while their kernel runs and
    stretch it."""
    clock_hz = stream_clock_hz(config)
    ends = np.round(np.cumsum(costs.part_us, axis=1) * 1e-6 * clock_hz).astype(np.int64)  # [R, PARTS]
    link_ps = _link_ps_per_weight_byte(graph, config)
    link = np.round(split.weight_bytes * link_ps * 1e-12 * clock_hz).astype(np.int64)
    exposed = np.maximum(link - ends[:, -1], 0)
    part = np.concatenate([np.zeros_like(ends[:, :1]), np.diff(ends, prepend=0), exposed[:, None]], axis=1)
    part = part[split.kernel]
    part[split.launches] = 0
    part[split.launches, 0] = _launch_cycles(split, config)
    busy = part.sum(axis=1)
    moved, energy = costs.level_bytes.round().astype(np.int64)[split.kernel], costs.energy_pj[split.kernel]
    energy = np.concatenate([energy, np.zeros_like(energy[:, :1])], axis=1)  # idle power is the run's
    moved[split.launches], energy[split.launches] = 0, 0.0
    launch = "graph launch" if config.launch is Launch.GRAPH else "launch"
    tasks = zip(split.launches.tolist(), split.kernel.tolist(), split.after, strict=True)
    return Columns(
        split.lengths,
        tuple(
            [
                (launch, "host", after) if launches else (costs.label[k], "stream", after)
                for launches, k, after in tasks
            ]
        ),
        busy,
        busy,
        part,
        moved,
        energy,
        np.where(split.launches, 0, split.macs[split.kernel]),
    )


def _launch_cycles(split: _Split, config: GpuConfig) -> list[int]:
    """Host cycles of the launches: one per kernel, or one for the whole graph in graph mode."""
    if config.launch is Launch.GRAPH:
        return [round(config.host.stream_launch_s * HOST_CLOCK_HZ)] * int(split.launches.sum())
    launched = [split.works[k] for k in split.kernel[split.launches].tolist()]
    waits_s = split.waits[split.launches] * config.host.sync_s  # a host that waited goes on a little later
    seconds = (launch_us(k, config) * 1e-6 + w for k, w in zip(launched, waits_s.tolist(), strict=True))
    return [round(s * HOST_CLOCK_HZ) for s in seconds]


def _kernels(graph: Graph, used: Aspect[GpuConfig]) -> Kernels:
    """The kernels of a graph, whatever the device costs them."""
    config = used.config
    fusion = Fusion.NONE if config.launch is Launch.EAGER else config.fusion
    return _kernels_as(graph, config.fill, config.packing, config.lengths, fusion, config.joint_products)


@lru_cache(maxsize=512)
def _kernels_as(
    graph: Graph, fill: float, packing: Packing, lengths: Lengths, fusion: Fusion, joint: bool
) -> Kernels:
    works = packed_works([work_of(node) for node in graph.nodes], fill, packing, lengths)
    found = kernels_of(graph, works, fusion, joint)
    same: dict[Work, Work] = {}  # one object per content: looking it up later compares identities
    pieces = tuple(tuple((n, same.setdefault(w, w)) for n, w in of_kernel) for of_kernel in found.pieces)
    work = tuple(w if w is None else same.setdefault(w, w) for w in found.work)
    return Kernels(found.kernel_of, work, pieces)


@lru_cache(maxsize=64)
def _wiring(
    predecessors: tuple[tuple[int, ...], ...], waiting: frozenset[int]
) -> tuple[tuple[int, ...], ...]:
    """Predecessors of two blocks per node: its launches and its kernels. Launches wait for nothing, except
    those of a host that needs a token count (`waiting`): it waits for the stream."""
    out: list[tuple[int, ...]] = []
    for i, before in enumerate(predecessors):
        kernels = tuple(2 * p + 1 for p in before)
        out += [kernels if i in waiting else (), (2 * i, *kernels)]
    return tuple(out)


def _link_ps_per_weight_byte(graph: Graph, config: GpuConfig) -> float:
    """Host-link time per weight byte: zero when the model is resident."""
    streamed = streamed_bytes(graph, config)
    if not streamed:
        return 0.0
    return streamed / graph.weight_bytes / config.host.link_bytes_per_s * 1e12
