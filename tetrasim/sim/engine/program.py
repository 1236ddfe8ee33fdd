"""`Program`: what a target runs, as columns.

A task occupies one resource for `busy_cycles` of that resource's clock and its result is ready
`latency_cycles` after its start (latency >= busy: a pipelined unit takes the next task before the last one
has drained). A task starts when the tasks it depends on are done and its resource is free; resources serve
their tasks in program order. `parts` says what the busy cycles of a task are spent on (launch, DRAM
weights, row activation, …): they sum to `busy_cycles`, which is why a time decomposition sums to 100 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIPELINE_PART = "pipeline latency"  # latency_cycles - busy_cycles, where a dependent task waits for it
RELEASE_PART = "waiting for release"  # time before the first task of the critical path may start


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that serves one task at a time. `lane` groups resources in traces ("channel 3")."""

    name: str
    clock_hz: int
    lane: str = ""


class ProgramError(Exception):
    """A malformed program: our defect, found by `Program.verify`."""


@dataclass(frozen=True, eq=False)
class Sharing:
    """How graph nodes that run as one kernel share what the tasks of one of them (the host) cost.

    CSR by host: `node[start[n]:start[n+1]]` are the nodes that share the tasks of node n; a node without
    entries keeps all of its tasks. `time`, `nbytes`, `energy` and `macs` are running sums of the shares in
    that order: the last entry of a host is exactly 1, so that rounded shares of a total sum to the total.
    """

    start: NDArray[np.int64]  # [N+1]
    node: NDArray[np.int32]  # [M]
    edges: NDArray[np.float64]  # [4, M] running shares of time, bytes, energy and MACs

    def verify(self) -> None:
        """Check shapes and that the shares of every host are a decomposition.

        Raises:
            ProgramError: naming the first host whose shares do not sum to one, or that are negative.
        """
        if self.edges.shape != (len(SHARED), len(self.node)) or self.start[-1] != len(self.node):
            raise ProgramError("the shares do not match their nodes")
        for host in np.flatnonzero(np.diff(self.start)).tolist():
            here = self.edges[:, self.start[host] : self.start[host + 1]]
            if (np.diff(here, axis=1, prepend=0.0) < 0).any() or (here[:, -1] != 1.0).any():
                raise ProgramError(f"the shares of node {host} are not parts of one")


SHARED = ("time", "bytes", "energy", "macs")  # rows of `Sharing.edges`


def running_shares(weights: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Running shares [M] of weights [M] >= 0 within each host's entries (`start` [N+1], every one of them at
    least one entry long or empty); entries that all weigh nothing leave everything to the first."""
    out = np.empty(len(weights))
    for first, last in zip(start[:-1].tolist(), start[1:].tolist(), strict=True):
        if first == last:
            continue
        sums = np.cumsum(weights[first:last])
        out[first:last] = sums / sums[-1] if sums[-1] > 0 else 1.0
        out[last - 1] = 1.0
    return out


def shared_by_host(
    hosts: Sequence[int],
    time: NDArray[np.float64],
    nbytes: NDArray[np.float64],
    energy: NDArray[np.float64],
    macs: NDArray[np.float64],
) -> Sharing | None:
    """The shares of nodes that run in the tasks of another node.

    Args:
        hosts: per node, the node whose tasks it runs in (itself where it has its own); -1: it costs nothing.
        time: weights [N], and so `nbytes`, `energy` and `macs`; a host's shares are in proportion to them.

    Returns:
        None when every node runs by itself.
    """
    guests: list[list[int]] = [[] for _ in hosts]
    for i, host in enumerate(hosts):
        if host >= 0 and (time[i] or nbytes[i] or i == host):
            guests[host].append(i)
    groups = [group if group != [i] else [] for i, group in enumerate(guests)]
    members = np.array([i for group in groups for i in group], dtype=np.int32)
    if not len(members):
        return None
    start = np.cumsum([0, *map(len, groups)]).astype(np.int64)
    edges = np.stack([running_shares(w[members], start) for w in (time, nbytes, energy, macs)])
    return Sharing(start, members, edges)


@dataclass(frozen=True, eq=False)
class Program:
    """T tasks in program order; P parts, L memory levels, C energy components.

    Dependencies are CSR: task i waits for `dep_index[dep_start[i]:dep_start[i+1]]`, all < i.
    """

    target: str
    resources: tuple[Resource, ...]
    kind_names: tuple[str, ...]
    part_names: tuple[str, ...]
    level_names: tuple[str, ...]
    component_names: tuple[str, ...]
    kind: NDArray[np.int32]  # [T] index into kind_names
    resource: NDArray[np.int32]  # [T] index into resources
    node: NDArray[np.int32]  # [T] index into graph.nodes, -1 when none
    busy_cycles: NDArray[np.int64]  # [T]
    latency_cycles: NDArray[np.int64]  # [T]
    dep_start: NDArray[np.int64]  # [T+1]
    dep_index: NDArray[np.int32]  # [E]
    part_cycles: NDArray[np.int64]  # [T, P], rows sum to busy_cycles
    level_bytes: NDArray[np.int64]  # [T, L]
    energy_pj: NDArray[np.float64]  # [T, C] dynamic energy
    macs: NDArray[np.int64]  # [T]
    static_power_w: tuple[tuple[str, float], ...] = ()  # component -> watts over the whole run
    release_ps: NDArray[np.int64] | None = None  # [T] earliest start, None: 0
    sharing: Sharing | None = None  # None: every node keeps what its tasks cost

    @property
    def tasks(self) -> int:
        return len(self.kind)

    def verify(self) -> None:
        """Check shapes, ranges and invariants.

        Raises:
            ProgramError: naming the first task that breaks a rule.
        """
        t = self.tasks
        for name in ("resource", "node", "busy_cycles", "latency_cycles", "macs"):
            if len(getattr(self, name)) != t:
                raise ProgramError(f"column {name} has {len(getattr(self, name))} rows, not {t}")
        shapes = (
            ("part_cycles", self.part_cycles, self.part_names),
            ("level_bytes", self.level_bytes, self.level_names),
            ("energy_pj", self.energy_pj, self.component_names),
        )
        for name, column, names in shapes:
            if column.shape != (t, len(names)):
                raise ProgramError(f"column {name} is {column.shape}, not {(t, len(names))}")
        if len(self.dep_start) != t + 1 or int(self.dep_start[-1]) != len(self.dep_index):
            raise ProgramError("dep_start and dep_index do not match")
        owner = np.repeat(np.arange(t), np.diff(self.dep_start))
        checks = (
            ("depends on itself or a later task", owner[self.dep_index >= owner]),
            ("has a negative duration", np.flatnonzero(self.busy_cycles < 0)),
            ("has a latency below its busy time", np.flatnonzero(self.latency_cycles < self.busy_cycles)),
            (
                "has parts that do not sum to busy_cycles",
                np.flatnonzero(self.part_cycles.sum(axis=1) != self.busy_cycles),
            ),
            ("has a negative part", np.flatnonzero((self.part_cycles < 0).any(axis=1))),
            (
                "has a negative or non-finite energy",
                np.flatnonzero(~((self.energy_pj >= 0) & np.isfinite(self.energy_pj)).all(axis=1)),
            ),
            (
                "names an unknown resource",
                np.flatnonzero((self.resource < 0) | (self.resource >= len(self.resources))),
            ),
            ("names an unknown kind", np.flatnonzero((self.kind < 0) | (self.kind >= len(self.kind_names)))),
        )
        for what, bad in checks:
            if len(bad):
                raise ProgramError(f"task {int(bad[0])} {what} ({len(bad)} tasks)")
        if self.sharing is not None:
            self.sharing.verify()

    def to_text(self, limit: int | None = None) -> str:
        """One line per task, stable: for golden tests and diffs."""
        lines = [f"program {self.target} tasks={self.tasks}"]
        for i in range(min(self.tasks, limit or self.tasks)):
            deps = self.dep_index[self.dep_start[i] : self.dep_start[i + 1]]
            parts = " ".join(
                f"{name}={int(c)}" for name, c in zip(self.part_names, self.part_cycles[i], strict=True) if c
            )
            lines.append(
                f"  {i} {self.kind_names[self.kind[i]]} on {self.resources[self.resource[i]].name}"
                f" node={int(self.node[i])} busy={int(self.busy_cycles[i])}"
                f" latency={int(self.latency_cycles[i])}"
                f" after[{','.join(str(int(d)) for d in deps)}] {parts}"
            )
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a `Block`. `after` counts back within the block: 1 is the task before it; a task with no
    `after` waits for the block's inputs. Missing parts, levels and components are zero."""

    kind: str
    resource: str
    busy_cycles: int
    parts: tuple[tuple[str, int], ...]
    latency_cycles: int = -1  # -1: busy_cycles
    after: tuple[int, ...] = ()
    level_bytes: tuple[tuple[str, int], ...] = ()
    energy_pj: tuple[tuple[str, float], ...] = ()
    macs: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """What one node becomes. Tasks that no other task of the block waits for are its outputs; an empty
    block passes its inputs through (views, fused nodes)."""

    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """The vocabulary of a target: the names that its tasks may use, in report order."""

    target: str
    resources: tuple[Resource, ...]
    part_names: tuple[str, ...]
    level_names: tuple[str, ...]
    component_names: tuple[str, ...]
    static_power_w: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Order:
    """The block of every node and what the node waits for. Wirings are kept per object: get it from
    `order_of`, which gives one object per content."""

    places: tuple[int, ...]  # [N] index of the node's block
    predecessors: tuple[tuple[int, ...], ...]  # [N]
    nodes: tuple[int, ...] | None = None  # [N] graph node that the tasks belong to; None: the position


@lru_cache(maxsize=256)
def order_of(
    places: tuple[int, ...],
    predecessors: tuple[tuple[int, ...], ...],
    nodes: tuple[int, ...] | None = None,
) -> Order:
    """The order of this content: the graphs of a step at all contexts share one."""
    return Order(places, predecessors, nodes)


@dataclass(frozen=True, eq=False)
class Columns:
    """The distinct blocks of a program, block after block: U tasks of B blocks."""

    lengths: tuple[int, ...]  # [B] tasks of each block
    shape: tuple[tuple[str, str, tuple[int, ...]], ...]  # [U] kind, resource, waits within the block
    busy_cycles: NDArray[np.int64]  # [U]
    latency_cycles: NDArray[np.int64]  # [U]
    part_cycles: NDArray[np.int64]  # [U, P]
    level_bytes: NDArray[np.int64]  # [U, L]
    energy_pj: NDArray[np.float64]  # [U, C]
    macs: NDArray[np.int64]  # [U]


def assemble(machine: Machine, blocks: Sequence[Block], predecessors: Sequence[Sequence[int]]) -> Program:
    """Join one block per node along the graph's edges into a verified program.

    `predecessors[i]` lists the nodes that node i waits for (`Graph.predecessors`). Kinds are numbered in
    order of first use. A block object that occurs often is converted once, and the wiring of a graph that was
    assembled before (same edges, same shape of blocks) is reused: only durations, bytes and energies are new.
    """
    ids = list(map(id, blocks))  # `blocks` keeps the objects, and so their ids, alive
    by_id = dict(zip(ids, blocks, strict=True))
    place = {key: i for i, key in enumerate(by_id)}
    order = order_of(tuple(map(place.__getitem__, ids)), tuple(map(tuple, predecessors)))
    return join(machine, columns_of(machine, list(by_id.values())), order)


def columns_of(machine: Machine, blocks: Sequence[Block]) -> Columns:
    """The tasks of `blocks` as columns."""
    tasks = [task for block in blocks for task in block.tasks]
    table = np.array(
        [(t.busy_cycles, t.busy_cycles if t.latency_cycles < 0 else t.latency_cycles, t.macs) for t in tasks],
        dtype=np.int64,
    ).reshape(len(tasks), 3)
    busy, latency, macs = table.T.copy()
    return Columns(
        tuple([len(block.tasks) for block in blocks]),
        tuple([(t.kind, t.resource, t.after) for t in tasks]),
        busy,
        latency,
        _spread([t.parts for t in tasks], machine.part_names).astype(np.int64),
        _spread([t.level_bytes for t in tasks], machine.level_names).astype(np.int64),
        _spread([t.energy_pj for t in tasks], machine.component_names),
        macs,
    )


def join(machine: Machine, columns: Columns, order: Order) -> Program:
    """`assemble` of blocks that are columns already: the price of a search over parameters, whose graph and
    shape of blocks stay the same."""
    names = tuple([r.name for r in machine.resources])
    waits = tuple([(resource, after) for _, resource, after in columns.shape])
    wiring = _wiring(names, columns.lengths, waits, order)
    take = wiring.take
    kinds: dict[str, int] = {}
    kind = np.zeros(len(columns.shape), dtype=np.int32)
    for unit in wiring.first_use:
        kind[unit] = kinds.setdefault(columns.shape[unit][0], len(kinds))
    program = Program(
        target=machine.target,
        resources=machine.resources,
        kind_names=tuple(kinds),
        part_names=machine.part_names,
        level_names=machine.level_names,
        component_names=machine.component_names,
        kind=kind[take],
        resource=wiring.resource,
        node=wiring.node,
        busy_cycles=columns.busy_cycles[take],
        latency_cycles=columns.latency_cycles[take],
        dep_start=wiring.dep_start,
        dep_index=wiring.dep_index,
        part_cycles=columns.part_cycles.take(take, 0),
        level_bytes=columns.level_bytes.take(take, 0),
        energy_pj=columns.energy_pj.take(take, 0),
        macs=columns.macs[take],
        static_power_w=machine.static_power_w,
    )
    # Every task is a copy of a unit and the wiring is right by construction: all of `verify` on few rows.
    if not _sound(columns):
        program.verify()
    return program


def _sound(columns: Columns) -> bool:
    """What `Program.verify` says of durations and energies."""
    busy, part, energy = columns.busy_cycles, columns.part_cycles, columns.energy_pj
    return bool(
        (part.sum(axis=1) == busy).all()
        and (columns.latency_cycles >= busy).all()
        and part.min(initial=0) >= 0  # and so are the sums
        and energy.min(initial=0.0) >= 0.0  # NaN is not
        and energy.max(initial=0.0) < np.inf
    )


@dataclass(frozen=True, eq=False)
class _Wiring:
    """The part of a program that durations and names do not change; programs share its columns and never
    write them."""

    resource: NDArray[np.int32]
    node: NDArray[np.int32]
    dep_start: NDArray[np.int64]
    dep_index: NDArray[np.int32]
    take: NDArray[np.int64]  # [T] unit of every task
    first_use: tuple[int, ...]  # units in order of their first task


@lru_cache(maxsize=256)
def _wiring(
    resource_names: tuple[str, ...],
    lengths: tuple[int, ...],
    waits: tuple[tuple[str, tuple[int, ...]], ...],
    order: Order,
) -> _Wiring:
    resource_ids = {name: i for i, name in enumerate(resource_names)}
    firsts = [0, *accumulate(lengths)]
    rows: list[tuple[int, int, int]] = []
    deps: list[int] = []
    dep_start = [0]
    outputs: list[tuple[int, ...]] = []
    nodes = range(len(order.places)) if order.nodes is None else order.nodes
    for place, node, before in zip(order.places, nodes, order.predecessors, strict=True):
        inputs = tuple(sorted({t for p in before for t in outputs[p]}))
        base, waited = len(rows), set[int]()
        for j in range(lengths[place]):
            resource, back = waits[firsts[place] + j]
            after = tuple(base + j - b for b in back)
            waited.update(after)
            deps.extend(after or inputs)
            dep_start.append(len(deps))
            rows.append((resource_ids[resource], node, firsts[place] + j))
        here = tuple(t for t in range(base, len(rows)) if t not in waited)
        outputs.append(here if lengths[place] else inputs)
    table = np.array(rows, dtype=np.int32).reshape(len(rows), 3)
    return _Wiring(
        resource=table[:, 0].copy(),
        node=table[:, 1].copy(),
        dep_start=np.array(dep_start, dtype=np.int64),
        dep_index=np.array(deps, dtype=np.int32),
        take=table[:, 2].astype(np.int64),
        first_use=tuple(dict.fromkeys(unit for _, _, unit in rows)),
    )


def _spread(entries: Sequence[Sequence[tuple[str, float]]], names: tuple[str, ...]) -> NDArray[np.float64]:
    """Sparse named entries -> dense columns in the order of `names` (exact for integers below 2**53)."""
    column = {name: i for i, name in enumerate(names)}
    out = np.zeros((len(entries), len(names)))
    for i, row in enumerate(entries):
        for name, amount in row:
            out[i, column[name]] += amount
    return out
