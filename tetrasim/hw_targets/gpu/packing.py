"""Batches without padding: only the real tokens of a batch are computed.

ByteTransformer and FasterTransformer's effective mode gather the tokens of all sequences into one packed
matrix: products, norms and activations shrink by the fill (mean length over padded length), attention by the
mean squared length. Lengths spread uniformly around the mean, up to the padded length or down to nothing
(E[l^2] = f^2 + min(f, 1 - f)^2 / 3 in units of the padded length squared), or are all equal (f^2). Without a
fused kernel for its length, FasterTransformer pads again for attention (`products`).
Sources: bytedance/ByteTransformer, NVIDIA/FasterTransformer (Bert.cc, BaseAttentionLayer.h; bert_example.py
gives all sequences the mean length), Apache-2.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tetrasim.hw_targets.gpu.config import Lengths, Packing
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.mask import Mask
from tetrasim.sim.ops.work import Operand, Work, WorkKind


def packed_works(
    works: Sequence[Work],
    fill: float,
    packing: Packing = Packing.BATCH,
    lengths: Lengths = Lengths.UNIFORM,
) -> list[Work]:
    """`works` with the padding removed; unchanged where there is none (fill 1, or a decode step)."""
    prefill = any(w.attention is not None and w.attention.q_len > 1 for w in works)
    if fill >= 1.0 or not prefill:
        return list(works)
    share = attention_share(fill, packing, lengths)
    return [_packed(work, fill, share) for work in works]


def attention_share(fill: float, packing: Packing, lengths: Lengths) -> float:
    """Root of the mean squared length that attention sees, over the padded length."""
    if fill >= 1.0 or packing is Packing.PRODUCTS:
        return 1.0
    return math.sqrt(fill**2 + _half_width(fill, lengths) ** 2 / 3)


def sequence_lengths(padded: int, batch: int, fill: float, lengths: Lengths) -> tuple[int, ...]:
    """A batch of lengths with that mean and spread: evenly spaced, middles of equal shares."""
    half = _half_width(fill, lengths)
    steps = (2 * (i + 0.5) / batch - 1 for i in range(batch))
    return tuple(max(1, round(padded * (fill + half * step))) for step in steps)


def _half_width(fill: float, lengths: Lengths) -> float:
    """Of the lengths' range around their mean, which ends at the padded length or at nothing."""
    return 0.0 if lengths is Lengths.EQUAL else min(fill, 1 - fill)


def _packed(work: Work, fill: float, share: float) -> Work:
    """`share`: root of the mean squared length that attention sees, over the padded length."""
    if work.kind is WorkKind.VIEW or (work.attention is not None and share >= 1.0):
        return work
    small = replace(
        work,
        reads=tuple(_shrunk(o, fill) for o in work.reads),
        writes=tuple(_shrunk(o, fill) for o in work.writes),
    )
    if work.gemm is not None and work.gemm.weight_is_b:
        return replace(small, gemm=replace(work.gemm, m=_part(work.gemm.m, fill)))
    if work.vector is not None:
        ops = tuple((kind, _part(count, fill)) for kind, count in work.vector.ops)
        return replace(small, vector=replace(work.vector, rows=_part(work.vector.rows, fill), ops=ops))
    if work.attention is not None and work.attention.q_len == work.attention.kv_len:
        length = _part(work.attention.q_len, share)
        mask = work.attention.mask  # an arbitrary one is known at its own length only
        kept = mask if isinstance(mask, Mask) else None
        return replace(small, attention=replace(work.attention, q_len=length, kv_len=length, mask=kept))
    return small


def _shrunk(operand: Operand, fill: float) -> Operand:
    if operand.role in (Role.WEIGHT, Role.CONSTANT):
        return operand
    touched = operand.touched_elements
    return replace(
        operand,
        elements=_part(operand.elements, fill),
        touched_elements=touched if touched < 0 else _part(touched, fill),
    )


def _part(count: int, share: float) -> int:
    return max(1, math.ceil(count * share)) if count else 0
