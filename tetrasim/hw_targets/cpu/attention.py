"""Attention on a processor: full, or IceFormer's top-k keys found by an exact-recall nearest-neighbour index.

Full attention is two batched products around a softmax over every key of the score matrix (masked pairs are
computed and then masked, as graph runtimes do). IceFormer (Mao, Ester, Li, ICLR 2024) keeps a frozen
model and, per query, attends to the k keys that a Prioritized DCI index returns: keys are projected on random
directions once (index build), each query visits a part of the points in order of projected distance
(query), and the k key and value rows are gathered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.sim.ops.work import AttentionShape, Gemm, Vector

# Prioritized DCI: number of projection directions (m simple x L composite indices), IceFormer's setting
# order; visited candidates grow like k * (n / k) ** (1 - m / d') (Li and Malik, ICML 2017).
PROJECTIONS = 8
CANDIDATE_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Pieces:
    """Products and passes that make up one attention op; `nodes` counts the graph nodes it replaces."""

    gemms: tuple[Gemm, ...]
    vectors: tuple[Vector, ...]
    score_elements: int
    gather_rows: int
    moved_elements: int
    nodes: int


def attention_pieces(shape: AttentionShape, config: CpuConfig) -> Pieces:
    """The pieces of `shape` under the configured attention."""
    if config.attention == "iceformer" and shape.q_len > 1 and shape.kv_len > config.iceformer_top_k:
        return _iceformer(shape, config.iceformer_top_k)
    groups = shape.batch * shape.heads
    masked = shape.causal or shape.biased
    nodes, moved = 3 + 8, 0
    if shape.q_len > 1:
        # Heads and tokens change places; with one token that is the same bytes.
        moved = (
            shape.batch
            * shape.q_len
            * (
                shape.heads * (shape.head_dim + shape.v_head_dim)
                + shape.kv_heads * (shape.head_dim + shape.v_head_dim)
            )
        )
    pairs = groups * shape.q_len * shape.kv_len
    return Pieces(
        (
            Gemm(groups, shape.q_len, shape.kv_len, shape.head_dim, weight_is_b=False),
            Gemm(groups, shape.q_len, shape.v_head_dim, shape.kv_len, weight_is_b=False),
        ),
        (softmax(groups * shape.q_len, shape.kv_len, masked),),
        pairs,
        0,
        moved,
        # products, softmax, (mask,) and a reshape and a transpose of each of q, k, v and the result
        nodes + (1 if masked else 0),
    )


def softmax(rows: int, cols: int, masked: bool) -> Vector:
    """Scale, (mask,) max, subtract, exp, sum, divide: the element operations of one softmax."""
    n = rows * cols
    ops = (("add", (3 if masked else 2) * n), ("mul", 2 * n), ("max", n), ("exp", n), ("div", rows))
    return Vector(rows, cols, ops, reduces=True)


def _iceformer(shape: AttentionShape, top_k: int) -> Pieces:
    groups, d = shape.batch * shape.heads, shape.head_dim
    visited = min(CANDIDATE_FACTOR * top_k * math.ceil(math.log2(shape.kv_len / top_k) + 1), shape.kv_len)
    queries = groups * shape.q_len
    keys = groups * shape.kv_len
    sort = math.ceil(math.log2(max(shape.kv_len, 2)))
    return Pieces(
        (
            Gemm(groups, shape.kv_len, PROJECTIONS, d, weight_is_b=True),
            Gemm(groups, shape.q_len, PROJECTIONS, d, weight_is_b=True),
            Gemm(queries, 1, visited, d, weight_is_b=False),
            Gemm(queries, 1, shape.v_head_dim, top_k, weight_is_b=False),
        ),
        (
            Vector(keys, PROJECTIONS * sort, (("cmp", keys * PROJECTIONS * sort),)),
            Vector(queries, visited, (("cmp", 2 * queries * visited), ("add", queries * visited))),
            softmax(queries, top_k, False),
        ),
        queries * visited,
        queries * (visited + top_k),
        0,
        14,
    )
