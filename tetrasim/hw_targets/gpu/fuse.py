"""Which nodes run as one kernel.

A library (or a compiler such as torch.compile) runs element-wise chains in one kernel and folds them into
the epilogue of a GEMM or the prologue of a normalisation. Strided views (a transpose or slice that only
other kernels read) are never kernels. Rules, on `Work` alone:
 - an element-wise VECTOR joins the kernel of its producer when nothing else reads that producer;
 - a reducing VECTOR joins an element-wise producer chain (residual add + norm), which may have other readers;
 - a MOVE that permutes or slices one tensor and only feeds other kernels costs nothing by itself.
Eager mode fuses nothing, but still takes views for free. With `chains`, products keep to themselves.
Products of one input with different weights may run as one whose columns lie side by side (`joint`).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from tetrasim.hw_targets.gpu.config import Fusion
from tetrasim.sim.ir.graph import Graph, Role, Value
from tetrasim.sim.ops.work import Operand, Vector, Work, WorkKind

Pieces = tuple[tuple[int, Work], ...]


@dataclass(frozen=True, eq=False)
class Kernels:
    """`kernel_of[i]`: the node whose position runs node i (the last of its group), -1 when it costs nothing.
    `work[i]`: what the kernel at node i does; None elsewhere. `pieces[i]`: the nodes of that kernel, each
    with its own part of the work: operands and operations of the pieces are those of the kernel."""

    kernel_of: tuple[int, ...]
    work: tuple[Work | None, ...]
    pieces: tuple[Pieces, ...]


def kernels_of(graph: Graph, works: Sequence[Work], fusion: Fusion, joint: bool = False) -> Kernels:
    """Group the nodes of `graph` (one work each) into kernels."""
    outputs = set(graph.outputs)
    group = list(range(len(works)))  # leader: the node at which the kernel runs
    work: list[Work | None] = [None if w.kind is WorkKind.VIEW else w for w in works]
    pieces: list[Pieces] = [((i, w),) for i, w in enumerate(works)]
    for i, node in enumerate(graph.nodes):
        if work[i] is None:
            continue
        if _is_strided_view(works[i]) and not any(o in outputs for o in node.outputs):
            work[i], group[i] = None, -1
            continue
        if joint and (found := _joined(graph, works, work, group, i)) is not None:
            work[i], first = found
            work[first] = None
            pieces[i] = (*pieces[first], (i, replace(works[i], reads=works[i].besides("a"))))
            group = [i if g == first else g for g in group]
        if fusion is Fusion.NONE or works[i].kind is not WorkKind.VECTOR:
            continue
        j = _single_producer(graph, i, work)
        if j is None or (fusion is Fusion.CHAINS and works[j].kind is WorkKind.GEMM):
            continue
        shared = _is_shared(graph, j, i, outputs)
        fused = _fused(work[j], works[i], keep=shared)
        if fused is None or (shared and not _reduces(works[i])):
            continue
        pieces[i] = _joined_pieces(pieces[j], work[j], i, works[i], keep=shared)
        work[i], work[j] = fused, None
        group = [i if g == j else g for g in group]
    for i, w in enumerate(works):
        if w.kind is WorkKind.VIEW:
            group[i] = -1
    return Kernels(tuple(group), tuple(work), tuple(pieces))


def _joined(
    graph: Graph, works: Sequence[Work], work: Sequence[Work | None], group: Sequence[int], i: int
) -> tuple[Work, int] | None:
    """Node i's product together with an earlier one of the same input that nothing has read yet, and that
    one's position."""
    mine = works[i].gemm
    if mine is None or not mine.weight_is_b or works[i].position("a") != 0:
        return None
    source = graph.nodes[i].inputs[0]
    assert source is not None
    for j in reversed(graph.consumers.get(source, ())):
        before, theirs = work[j] if j < i else None, works[j].gemm
        if before is None or before.gemm is None or theirs is None or not theirs.weight_is_b:
            continue
        same = (before.gemm.batch, before.gemm.m, before.gemm.k) == (mine.batch, mine.m, mine.k)
        readers = (_first_reader(graph, works, n) for n, leader in enumerate(group[:i]) if leader == j)
        if same and graph.nodes[j].inputs[0] is source and min(readers) > i:
            wide = replace(mine, n=before.gemm.n + mine.n)
            reads = (*before.reads, *works[i].besides("a"))
            return replace(before, reads=reads, writes=(*before.writes, *works[i].writes), gemm=wide), j
    return None


def _first_reader(graph: Graph, works: Sequence[Work], j: int) -> int:
    """The first kernel that reads what node j computes, through views."""
    first = len(works)
    for o in graph.nodes[j].outputs:
        for c in graph.consumers.get(o, ()):
            free = works[c].kind is WorkKind.VIEW or _is_strided_view(works[c])
            first = min(first, _first_reader(graph, works, c) if free else c)
    return first


def _is_strided_view(work: Work) -> bool:
    """A permutation or slice of one tensor, not a write to state."""
    if work.kind is not WorkKind.MOVE or any(o.role is Role.STATE for o in work.writes):
        return False
    moved = [o for o in work.reads if o.role is not Role.CONSTANT]
    return len(moved) == 1 and moved[0].nbytes == sum(o.nbytes for o in work.writes)


def _single_producer(graph: Graph, i: int, work: Sequence[Work | None]) -> int | None:
    """The one node that computes what node i reads, if it is a kernel of its own."""
    producers = graph.predecessors[i]
    live = [p for p in producers if work[p] is not None]
    return live[-1] if live and len(producers) == len(live) and max(producers) == live[-1] else None


def _is_shared(graph: Graph, j: int, i: int, outputs: Set[Value]) -> bool:
    """Whether something besides node i needs node j's result."""
    return any(
        o in outputs or any(c != i for c in graph.consumers.get(o, ())) for o in graph.nodes[j].outputs
    )


def _reduces(work: Work) -> bool:
    return work.vector is not None and work.vector.reduces


def _between(first: Work, second: Work) -> Operand | None:
    """What the second op reads of the first one's result."""
    size = first.writes[0].elements if first.writes else 0
    return next((o for o in second.reads if o.elements == size and o.role is Role.ACTIVATION), None)


def _joined_pieces(before: Pieces, first: Work | None, i: int, second: Work, keep: bool) -> Pieces:
    """The pieces of `_fused(first, second, keep)`, where `before` are those of `first`."""
    between = None if first is None else _between(first, second)
    assert between is not None
    kept = before if keep else tuple((n, replace(piece, writes=())) for n, piece in before)
    return (*kept, (i, replace(second, reads=_without(second.reads, between))))


def _fused(first: Work | None, second: Work, keep: bool) -> Work | None:
    """One kernel that does both; None when no library does. The intermediate stays in registers."""
    if first is None or second.vector is None or first.kind not in (WorkKind.GEMM, WorkKind.VECTOR):
        return None
    if any(v is not None and (v.kept or v.steps > 1) for v in (first.vector, second.vector)):
        return None  # a sort and a scan are kernels of their own
    if second.vector.reduces and (first.kind is WorkKind.GEMM or _reduces(first)):
        return None
    between = _between(first, second)
    if between is None:
        return None
    extra = _without(second.reads, between)
    writes = (*second.writes, *first.writes) if keep else second.writes
    vector = second.vector
    if first.vector is not None:
        ops = (*first.vector.ops, *second.vector.ops)
        vector = Vector(vector.rows, vector.cols, ops, vector.reduces or first.vector.reduces)
    return replace(
        first, op=f"{first.op}+{second.op}", reads=(*first.reads, *extra), writes=writes, vector=vector
    )


def _without(operands: tuple[Operand, ...], one: Operand) -> tuple[Operand, ...]:
    at = operands.index(one)
    return (*operands[:at], *operands[at + 1 :])
