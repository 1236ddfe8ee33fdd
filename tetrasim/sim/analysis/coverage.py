"""Which nodes of a graph have a cost model, and what share of its MACs and bytes they carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tetrasim.errors import UserError
from tetrasim.sim.ir.graph import Graph, Node
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.unmodelled import UNMODELLED, original_op
from tetrasim.sim.ops.work import Work, WorkKind
from tetrasim.sim.result import CoverageResult


@dataclass(frozen=True, slots=True)
class OpCoverage:
    """All nodes of one op: how many, what they do, how many have a cost model."""

    op: str
    nodes: int
    modelled: int
    macs: int
    vector_ops: int
    nbytes: int


def op_table(graph: Graph) -> tuple[OpCoverage, ...]:
    """One row per op, most MACs first, then most bytes."""
    rows: dict[str, list[int]] = {}
    for node in graph.nodes:
        row = rows.setdefault(_name(node), [0, 0, 0, 0, 0])
        row[0] += 1
        work = _work(node)
        if work is None:
            continue
        for i, amount in enumerate((1, work.macs, work.vector_ops, work.nbytes), 1):
            row[i] += amount
    table = [OpCoverage(op, *row) for op, row in rows.items()]
    return tuple(sorted(table, key=lambda r: (-r.macs, -r.nbytes, r.op)))


def _work(node: Node) -> Work | None:
    """What the node costs; None where that is not known."""
    if node.op == UNMODELLED:
        return None
    try:
        return work_of(node)
    except UserError:
        return None


def _name(node: Node) -> str:
    return original_op(node) if node.op == UNMODELLED else node.op


def coverage(graphs: Iterable[Graph]) -> CoverageResult:
    """Coverage over all graphs of a model. Bytes of an op without a model are those of its tensors."""
    nodes = modelled = 0
    known_bytes = all_bytes = 0
    missing: list[str] = []
    for graph in graphs:
        for node in graph.nodes:
            nodes += 1
            size = sum(v.type.nbytes for v in (*node.inputs, *node.outputs) if v is not None)
            work = _work(node)
            if work is None:
                missing.append(f"{graph.name}/{node.name} ({_name(node)})")
                all_bytes += size
                continue
            modelled += 1
            touched = 0 if work.kind is WorkKind.VIEW else work.nbytes
            known_bytes += touched
            all_bytes += touched
    return CoverageResult(
        nodes=nodes,
        nodes_modelled=modelled,
        # an op without a model has unknown MACs: a full fraction is only claimed when none is missing
        macs_fraction=1.0 if not missing else (known_bytes / all_bytes if all_bytes else 0.0),
        bytes_fraction=known_bytes / all_bytes if all_bytes else 1.0,
        unmodelled=tuple(missing),
    )
