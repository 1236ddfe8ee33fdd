"""Attention without a fused kernel: scores, softmax and weighted sum as three kernels through memory.

This is what frameworks ran before FlashAttention, and what the `unfused` mapping option still asks for.
"""

from __future__ import annotations

from collections.abc import Iterator

from tetrasim.hw_targets.gpu.config import AttentionSchedule, GpuConfig
from tetrasim.sim.ops.work import AttentionShape, Gemm, Operand, Vector, Work, WorkKind


def unfused(work: Work, config: GpuConfig) -> Iterator[Work]:
    """The kernels that run `work`: itself, or three when attention is mapped unfused."""
    if work.attention is None or config.attention is not AttentionSchedule.UNFUSED:
        yield work
        return
    yield from attention_kernels(work, work.attention)


def attention_kernels(work: Work, a: AttentionShape) -> Iterator[Work]:
    """q k^T, softmax (with the mask), p v: the full score matrix is written and read, masked or not."""
    query, key, value, *rest = work.reads
    scores = a.batch * a.heads * a.q_len * a.kv_len
    middle = Operand(scores, query.bits, query.kind)
    batch = a.batch * a.heads
    yield Work(
        "MatMul", WorkKind.GEMM, (query, key), (middle,), Gemm(batch, a.q_len, a.kv_len, a.head_dim, False)
    )
    ops = (("mul", scores), ("max", scores), ("add", 2 * scores), ("exp", scores), ("div", scores))
    rows = batch * a.q_len
    yield Work(
        "Softmax", WorkKind.VECTOR, (middle, *rest), (middle,), vector=Vector(rows, a.kv_len, ops, True)
    )
    yield Work(
        "MatMul",
        WorkKind.GEMM,
        (middle, value),
        work.writes,
        Gemm(batch, a.q_len, a.v_head_dim, a.kv_len, False),
    )
