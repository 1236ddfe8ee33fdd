"""A simulated pipeline as a `Program`: one task per firing of the first inference, so that reports, traces
and
critical paths work as for any target.

Each actor is a resource. A firing is busy for its initiation interval, longer when its pipeline was frozen
by a full
FIFO (part "back-pressure"); its result is ready when its tokens can be read. RAM FIFOs cost one more cycle
and are
tasks of their own. Served in order, the tasks start in exactly the cycles that the dataflow simulation found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dataflow.kernel import Run
from tetrasim.hw_targets.fpga.dataflow.network import Port
from tetrasim.hw_targets.fpga.parts import SPATIAL_NAMES
from tetrasim.hw_targets.fpga.spatial import Design
from tetrasim.sim.engine.program import Program, Resource, Sharing, shared_by_host
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPONENTS = ("MAC array", "fabric logic", "on-chip memory")
LEVELS = ("on-chip memory",)
KINDS = ("source", "layer", "sink", "FIFO")


@dataclass(frozen=True, slots=True)
class _Row:
    """A task before its position is known; `key` orders it."""

    key: tuple[int, int, int]
    name: tuple[str, int, int]  # ("actor", a, k) or ("fifo", f, token)
    kind: int
    resource: int
    node: int
    busy: int
    latency: int
    parts: tuple[int, int, int]
    waits: tuple[tuple[str, int, int], ...]
    share: float  # of the node's energy and work


def _firings(port: Port) -> range:
    return range(port.first, port.last, port.stride)


def lower_pipeline(graph: Graph, design: Design, run: Run, config: FpgaConfig) -> Program:
    """The first inference as tasks in order of their start."""
    network = design.network
    rows = [*_firing_rows(design, run), *_fifo_rows(design, run)]
    rows.sort(key=lambda r: r.key)
    place = {row.name: i for i, row in enumerate(rows)}
    deps = [sorted({place[w] for w in row.waits}) for row in rows]
    dep_start = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(d) for d in deps], out=dep_start[1:])
    energy, nbytes, macs = _host_costs(graph, design.hosts, config)
    nodes = np.array([r.node for r in rows], np.int32)
    share = np.array([r.share for r in rows])
    ram = tuple(Resource(f"FIFO {f.name}", config.clock_hz, "FIFOs") for f in network.fifos)
    program = Program(
        target="fpga",
        resources=(*(Resource(a.name, config.clock_hz, "pipeline") for a in network.actors), *ram),
        kind_names=KINDS,
        part_names=SPATIAL_NAMES,
        level_names=LEVELS,
        component_names=COMPONENTS,
        kind=np.array([r.kind for r in rows], np.int32),
        resource=np.array([r.resource for r in rows], np.int32),
        node=nodes,
        busy_cycles=np.array([r.busy for r in rows], np.int64),
        latency_cycles=np.array([r.latency for r in rows], np.int64),
        dep_start=dep_start,
        dep_index=np.array([d for row in deps for d in row], np.int32),
        part_cycles=np.array([r.parts for r in rows], np.int64).reshape(len(rows), 3),
        level_bytes=_split(nbytes, nodes, share)[:, None],
        energy_pj=energy[nodes] * share[:, None],
        macs=_split(macs, nodes, share),
        static_power_w=(("board static", config.power.static_w),),
        sharing=_sharing(graph, design.hosts, config),
    )
    program.verify()
    return program


def _firing_rows(design: Design, run: Run) -> list[_Row]:
    network = design.network
    writers = network.writers()
    main = _main_actor(design)
    rows = []
    for a, actor in enumerate(network.actors):
        base = int(run.offset[a])
        start, done = run.start[base : base + actor.firings], run.done[base : base + actor.firings]
        kind = 0 if not actor.reads else (1 if actor.writes else 2)
        inputs: list[list[tuple[str, int, int]]] = [[] for _ in range(actor.firings)]
        for port in actor.reads:
            writer, put = writers[port.fifo]
            produced = list(_firings(put))
            initial = network.fifos[port.fifo].initial
            ram = network.fifos[port.fifo].read_after_write > 1
            for token, k in enumerate(_firings(port)):
                if token >= initial:
                    source = (
                        ("fifo", port.fifo, token - initial)
                        if ram
                        else ("actor", writer, produced[token - initial])
                    )
                    inputs[k].append(source)
        ready = _ready(inputs, run, design)
        for k in range(actor.firings):
            if not actor.reads and k >= max((p.last for p in actor.writes), default=0):
                continue  # a source waiting for the next input, or one that nothing reads
            frozen = 0
            if k + 1 < actor.firings and start[k + 1] > max(int(start[k]) + actor.ii, ready[k + 1]):
                frozen = int(start[k + 1]) - int(start[k]) - actor.ii  # held by its own pipeline
            busy = actor.ii + frozen
            latency = max(int(done[k] - start[k]) + (1 if actor.writes else 0), busy)
            share = 1.0 / actor.firings if main.get(actor.node) == a else 0.0
            rows.append(
                _Row(
                    (int(start[k]), a, k), ("actor", a, k), kind, a, actor.node, busy, latency,
                    (actor.ii, frozen, 0), tuple(inputs[k]), share,
                )
            )  # fmt: skip
    return rows


def _ready(inputs: list[list[tuple[str, int, int]]], run: Run, design: Design) -> list[int]:
    """Per firing, the cycle from which all its inputs can be read."""
    writers = design.network.writers()
    out = []
    for waits in inputs:
        when = 0
        for what, index, k in waits:
            if what == "actor":
                when = max(when, int(run.done[run.offset[index] + k]) + 1)
            else:
                writer, put = writers[index]
                when = max(when, int(run.done[run.offset[writer] + put.first + k * put.stride]) + 2)
        out.append(when)
    return out


def _fifo_rows(design: Design, run: Run) -> list[_Row]:
    """One task per token of a RAM FIFO: written, then readable a cycle later than from a register."""
    network = design.network
    rows = []
    for f, (fifo, (writer, put)) in enumerate(zip(network.fifos, network.writers(), strict=True)):
        if fifo.read_after_write == 1:
            continue
        for token, k in enumerate(_firings(put)):
            begin = int(run.done[run.offset[writer] + k]) + 1
            rows.append(
                _Row(
                    (begin, len(network.actors) + f, token), ("fifo", f, token), 3, len(network.actors) + f,
                    network.actors[writer].node, 1, 1, (0, 0, 1), (("actor", writer, k),), 0.0,
                )
            )  # fmt: skip
    return rows


def _main_actor(design: Design) -> dict[int, int]:
    """Graph node -> the actor that does its arithmetic (the last one; buffers come first)."""
    return {actor.node: a for a, actor in enumerate(design.network.actors)}


def _host_costs(
    graph: Graph, hosts: tuple[int, ...], config: FpgaConfig
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Per hosting node (and a zero row for -1): energy by component in pJ, bytes, MACs."""
    energy = np.zeros((len(graph.nodes) + 1, len(COMPONENTS)))
    nbytes = np.zeros(len(graph.nodes) + 1, np.int64)
    macs = np.zeros(len(graph.nodes) + 1, np.int64)
    for host, node in zip(hosts, graph.nodes, strict=True):
        work = work_of(node)
        energy[host] += _energy_pj(work, config)
        nbytes[host] += work.nbytes
        macs[host] += work.macs
    return energy, nbytes, macs


def _energy_pj(work: Work, config: FpgaConfig) -> tuple[float, float, float]:
    """By component."""
    power = config.power
    return (
        work.macs * power.mac_pj,
        work.vector_ops * power.lut_op_pj,
        work.nbytes * power.on_chip_pj_per_byte,
    )


def _sharing(graph: Graph, hosts: tuple[int, ...], config: FpgaConfig) -> Sharing | None:
    """What the nodes of one stage have of it: of its time in proportion to their operations."""
    works = [work_of(node) for node in graph.nodes]
    operations = np.array([float(w.macs + w.vector_ops) for w in works])
    nbytes = np.array([float(w.nbytes) for w in works])
    energy = np.array([sum(_energy_pj(w, config)) for w in works])
    return shared_by_host(hosts, operations, nbytes, energy, np.array([float(w.macs) for w in works]))


def _split(
    amounts: NDArray[np.int64], nodes: NDArray[np.int32], share: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Integer amounts of nodes over their tasks; the remainder goes to the first tasks, so sums are exact."""
    out = np.zeros(len(nodes), np.int64)
    for node in np.unique(nodes[share > 0]):
        mine = np.flatnonzero((nodes == node) & (share > 0))
        each, rest = divmod(int(amounts[node]), len(mine))
        out[mine] = each
        out[mine[:rest]] += 1
    return out
