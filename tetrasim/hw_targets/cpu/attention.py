"""Attention on a processor: full, or IceFormer's top-k keys found by an exact-recall nearest-neighbour index.

Attention is two batched products around a softmax, with transposes where heads and tokens change places. A
mask whose structure is known before the run (causal, windows, blocks) leaves out the pairs that it hides, as
torch's blocked kernel for processors does with causal masks; one that is read at run time is applied to every
pair. Eager frameworks compute every pair, and scale and mask in passes of their own.
IceFormer (Mao, Ester, Li, ICLR 2024) keeps a frozen model and, per query, attends to the k keys that a
Prioritized DCI index returns: keys are projected on random directions once and sorted (index build), each
query visits a part of the points in order of projected distance (query), and k value rows are gathered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from tetrasim.hw_targets.common.target import Aspect
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.work import AttentionShape, Gemm, Operand, Vector, Work, WorkKind

_QUERY_BLOCK = 256  # torch's kernel for processors, from 768 queries on (FlashAttentionKernel.cpp)
PROJECTIONS = 8  # random directions of the index (assumed: the repository's settings are not published here)


@dataclass(frozen=True, slots=True)
class Piece:
    """One of the ops; `inputs[i]`: the operand of the attention that its operand i is, -1 for its own."""

    work: Work
    inputs: tuple[int, ...]
    nbytes: int  # of the tensors that it touches, each once


def attention_pieces(work: Work, config: CpuConfig) -> tuple[Piece, ...]:
    """The ops that compute one attention node, in order."""
    seen = (config.attention, config.runtime, config.iceformer_top_k, config.iceformer_intrinsic_dim)
    return _pieces(work, Aspect(seen, config))  # `seen`: every field that this module reads


@lru_cache(maxsize=1 << 14)
def _pieces(work: Work, used: Aspect[CpuConfig]) -> tuple[Piece, ...]:
    index = {id(o): i for i, o in enumerate(work.reads)}
    return tuple(
        Piece(
            piece,
            tuple(index.get(id(o), -1) for o in piece.reads),
            sum(o.elements * o.bits // 8 for o in (*piece.reads, *piece.writes)),
        )
        for piece in attention_works(work, used.config)
    )


def attention_works(work: Work, config: CpuConfig) -> tuple[Work, ...]:
    """The works of `attention_pieces`."""
    shape = work.attention
    assert shape is not None
    if config.attention == "iceformer" and shape.q_len > 1 and shape.kv_len > config.iceformer_top_k:
        return _iceformer(work, shape, config)
    return _full(work, shape, eager=config.runtime == "eager")


def _full(work: Work, s: AttentionShape, *, eager: bool) -> tuple[Work, ...]:
    q, k, v = (work.operand(role) for role in "qkv")
    groups = s.batch * s.heads
    bits, kind = q.bits, q.kind
    keys = s.kv_len if eager else max(-(-s.visible_pairs // s.q_len), 1)
    # A kernel that leaves out hidden keys takes the queries of a head in blocks.
    blocks = -(-s.q_len // _QUERY_BLOCK) if keys < s.kv_len and s.q_len >= 3 * _QUERY_BLOCK else 1
    rows = -(-s.q_len // blocks)
    scores = Operand(groups * s.q_len * keys, bits, kind)
    out: list[Work] = [
        _turn(name, x, s) for name, x in zip("qkv", (q, k, v), strict=True) if name in s.turned
    ]
    if s.heads != s.kv_heads:
        # Keys and values are repeated for every head of their group.
        for x, width in ((k, s.head_dim), (v, s.v_head_dim)):
            wide = Operand(groups * s.kv_len * width, bits, kind)
            out.append(Work("Expand", WorkKind.MOVE, (x,), (wide,)))
            k, v = (wide, v) if x is k else (k, wide)
    if s.q_len == 1:
        # Keys lie row by row, and a product of one row does not pack: it turns them on the way.
        out.append(Work("turn keys", WorkKind.MOVE, (k,), (k,), run=s.head_dim))
    out.append(_product("scores", (q, k), scores, Gemm(groups * blocks, rows, keys, s.head_dim, False)))
    n = scores.elements
    if eager:
        # Frameworks scale the scores and add the mask in passes of their own, each with a new result.
        scaled = Vector(groups * s.q_len, keys, (("div", n),))
        out.append(Work("scale", WorkKind.VECTOR, (scores,), (scores,), vector=scaled))
        if s.hides or s.biased:
            added = Vector(groups * s.q_len, keys, (("add", n),))
            mask = Operand(s.q_len * keys, bits, kind)
            out.append(Work("mask", WorkKind.VECTOR, (scores, mask), (scores,), vector=added))
    elif s.biased:
        mask = Operand(s.q_len * keys, 8, Kind.BOOL)
        masked = Vector(groups * s.q_len, keys, (("select", n),))
        out.append(Work("mask", WorkKind.VECTOR, (scores, mask), (scores,), vector=masked))
    out.append(_softmax(groups * s.q_len, keys, scores))
    result = Operand(groups * s.q_len * s.v_head_dim, bits, kind)
    out.append(
        _product("values", (scores, v), result, Gemm(groups * blocks, rows, s.v_head_dim, keys, False))
    )
    if "o" in s.turned:
        out.append(_turn("o", result, s))
    return tuple(out)


def _turn(name: str, x: Operand, s: AttentionShape) -> Work:
    """Heads and tokens change places; with a single token that is the same bytes."""
    if s.q_len == 1 and name in "qo":
        return Work("Reshape", WorkKind.VIEW, (x,), (x,))
    source = Operand(x.elements, x.bits, x.kind, x.role)
    return Work("Transpose", WorkKind.MOVE, (source,), (Operand(x.elements, x.bits, x.kind),), run=s.head_dim)


def _product(name: str, reads: tuple[Operand, Operand], writes: Operand, gemm: Gemm) -> Work:
    return Work(name, WorkKind.GEMM, reads, (writes,), gemm=gemm)


def _softmax(rows: int, cols: int, scores: Operand) -> Work:
    """Scale, max, subtract, exp, sum, divide."""
    n = rows * cols
    ops = (("add", 2 * n), ("div", rows), ("exp", n), ("max", n), ("mul", 2 * n))
    return Work(
        "Softmax", WorkKind.VECTOR, (scores,), (scores,), vector=Vector(rows, cols, ops, reduces=True)
    )


def visited_keys(kv_len: int, top_k: int, intrinsic_dim: int) -> int:
    """Candidates whose exact distance is computed per query: k max(log(n/k), (n/k)^(1 - m/d')) for m
    directions and keys of intrinsic dimension d' (Li and Malik, ICML 2017, theorem on prioritized DCI)."""
    ratio = kv_len / top_k
    power = math.pow(ratio, max(1 - PROJECTIONS / intrinsic_dim, 0.0))
    return min(math.ceil(top_k * max(math.log(ratio), power)), kv_len)


def _iceformer(work: Work, s: AttentionShape, config: CpuConfig) -> tuple[Work, ...]:
    q, k, v = (work.operand(role) for role in "qkv")
    top_k = config.iceformer_top_k
    groups, visited = s.batch * s.heads, visited_keys(s.kv_len, top_k, config.iceformer_intrinsic_dim)
    queries, keys, d = groups * s.q_len, groups * s.kv_len, s.head_dim
    directions = Operand(d * PROJECTIONS, q.bits, q.kind, Role.CONSTANT)
    depth = max(math.ceil(math.log2(s.kv_len)), 1)
    projected = [Operand(n * PROJECTIONS, q.bits, q.kind) for n in (keys, queries)]
    # Heads are handled one after the other: the rows picked lie within one head's keys or values.
    picked = Operand(s.kv_len * d, k.bits, k.kind, touched_elements=queries * visited * d)
    values = Operand(s.kv_len * s.v_head_dim, v.bits, v.kind, touched_elements=queries * top_k * s.v_head_dim)
    distances = Operand(visited, q.bits, q.kind, touched_elements=queries * visited)
    weights = Operand(queries * top_k, q.bits, q.kind)
    result = Operand(queries * s.v_head_dim, q.bits, q.kind)
    sort = Vector(keys, PROJECTIONS, (("cmp", keys * PROJECTIONS * depth),))
    walk = Vector(queries, visited, (("add", queries * visited), ("cmp", 2 * queries * visited)))
    products = (("add", queries * visited * d), ("mul", queries * visited * d))
    dots = Vector(queries * visited, d, products, reduces=True)
    sums = (("add", queries * top_k * s.v_head_dim), ("mul", queries * top_k * s.v_head_dim))
    mix = Vector(queries * top_k, s.v_head_dim, sums)
    return (
        _product("index: project keys", (k, directions), projected[0], Gemm(1, keys, PROJECTIONS, d)),
        Work("index: sort", WorkKind.VECTOR, (projected[0],), (projected[0],), vector=sort),
        _product("query: project", (q, directions), projected[1], Gemm(1, queries, PROJECTIONS, d)),
        Work("query: walk", WorkKind.VECTOR, (projected[1],), (distances,), vector=walk),
        Work("query: distances", WorkKind.VECTOR, (picked,), (distances,), vector=dots),
        _softmax(queries, top_k, weights),
        Work("values", WorkKind.VECTOR, (weights, values), (result,), vector=mix),
    )
