"""Per-op rows of the report, and roofline points (Williams, Waterman, Patterson, CACM 2009).

Times, bytes, MACs and energies are what the engine charged to each node over all runs of the phase, with its
share of a kernel that it runs in; vector operations are the op's own `Work`, summed exactly over the contexts
of a generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.analysis.phases import PS_PER_NS
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.result import OpResult, RooflinePoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.engine.timeline import RunTotals
    from tetrasim.sim.ir.family import GraphFamily
    from tetrasim.sim.ir.graph import Node

OUTSIDE = "(run overhead)"


def op_results(
    phase: str, family: GraphFamily, contexts: Sequence[int], totals: RunTotals
) -> tuple[OpResult, ...]:
    """One row per node in graph order, and one for what belongs to no node, where there is some. Times,
    energies, bytes and MACs of the rows sum to the phase's."""
    whole_ps = int(totals.total_ps.sum())
    amounts = arithmetic(family, contexts)
    energy = energies(totals)
    rows = []
    for i, node in enumerate(family.base.nodes):
        vector_ops, operand_bytes = amounts[i]
        moved, macs = int(totals.node_bytes[i]), int(totals.node_macs[i])
        parts = totals.node_part_ps[i]
        rows.append(
            OpResult(
                phase=phase,
                node=node.name,
                op=node.op,
                module=node.source.module,
                onnx=node.source.onnx,
                shape=", ".join(str(v.type) for v in node.outputs),
                macs=macs,
                bytes=moved,
                time_ns=int(totals.node_ps[i]) / PS_PER_NS,
                busy_ns=int(totals.node_busy_ps[i]) / PS_PER_NS,
                time_fraction=int(totals.node_ps[i]) / whole_ps if whole_ps else 0.0,
                energy_pj=float(energy[i]),
                bound_by=totals.part_names[int(np.argmax(parts))] if parts.any() else "nothing",
                arithmetic_intensity=(2 * macs + vector_ops) / (moved or operand_bytes or 1),
            )
        )
    outside_bytes = int(totals.level_bytes[:, -1:].sum() - totals.node_bytes.sum())
    outside_macs = int(totals.macs.sum() - totals.node_macs.sum())
    if totals.outside_ps or outside_bytes or outside_macs or energy[-1]:
        rows.append(
            _outside(phase, totals.outside_ps, whole_ps, outside_bytes, outside_macs, float(energy[-1]))
        )
    return tuple(rows)


def energies(totals: RunTotals) -> NDArray[np.float64]:
    """[N + 1] energy of every node and of what is outside: its tasks' own, and of the rest (static power,
    refresh, tasks of no node) a share by its time."""
    times = np.append(totals.node_ps, totals.outside_ps).astype(np.float64)
    own = np.append(totals.node_energy_pj, 0.0)
    rest = max(float(totals.energy_pj.sum() - own.sum()), 0.0)
    if not times.any():
        times[-1] = 1.0
    return np.asarray(own + rest * times / times.sum())


def arithmetic(family: GraphFamily, contexts: Sequence[int]) -> list[tuple[int, int]]:
    """(vector operations, operand bytes) of every node, summed over the contexts."""
    base = family.base.nodes
    sums = [[0, 0] for _ in base]
    first = family.at(contexts[0]).nodes
    second = family.at(contexts[-1]).nodes
    moving = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a is not b]
    for i, node in enumerate(first):
        sums[i] = [len(contexts) * x for x in _amounts(node)]
    for i in moving:
        sums[i] = [0, 0]
    for context in contexts if moving else ():
        nodes = family.at(context).nodes
        for i in moving:
            sums[i] = [a + b for a, b in zip(sums[i], _amounts(nodes[i]), strict=True)]
    return [(a, b) for a, b in sums]


def _amounts(node: Node) -> tuple[int, int]:
    work = work_of(node)
    return work.vector_ops, work.nbytes


def _outside(
    phase: str, outside_ps: int, whole_ps: int, nbytes: int, macs: int, energy_pj: float
) -> OpResult:
    return OpResult(
        phase=phase,
        node=OUTSIDE,
        op="",
        module="",
        onnx=(),
        shape="",
        macs=macs,
        bytes=nbytes,
        time_ns=outside_ps / PS_PER_NS,
        busy_ns=outside_ps / PS_PER_NS,
        time_fraction=outside_ps / whole_ps if whole_ps else 0.0,
        energy_pj=energy_pj,
        bound_by=OUTSIDE,
        arithmetic_intensity=0.0,
    )


def roofline(rows: Sequence[OpResult]) -> tuple[RooflinePoint, ...]:
    """A point per op that does arithmetic: operations per second of its own busy time."""
    points = []
    for row in rows:
        ops = row.arithmetic_intensity * row.bytes if row.bytes else 2.0 * row.macs
        if ops and row.busy_ns:
            points.append(
                RooflinePoint(row.phase, row.node, row.arithmetic_intensity, ops / (row.busy_ns * 1e-9))
            )
    return tuple(points)
