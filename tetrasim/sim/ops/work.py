"""`Work`: what an op is, independent of hardware.

A target prices `Work`, never an op name, so that an op added to `sim/ops/` runs on every target and a
target has six kinds of work to model. `Work` is small, frozen and hashable: equal work is priced once.
Bytes are those that the op's own tensors occupy (`Operand.touched_elements` where only part of a tensor is
read, as in a gather); caching and reuse are the target's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.mask import CAUSAL, FULL, Mask, Pattern, window_mask


class WorkKind(StrEnum):
    GEMM = "gemm"  # batched dense products; convolutions as implicit GEMM
    ATTENTION = "attention"  # softmax(q k^T / sqrt(c) + mask) v, all heads
    VECTOR = "vector"  # element-wise chains, normalisations, reductions, softmax: rows x cols
    GATHER = "gather"  # rows picked by index: embeddings, top-k, scatter
    MOVE = "move"  # transposes, concatenations, slices, cache appends: bytes, no arithmetic
    VIEW = "view"  # a new shape on the same bytes: costs nothing on every target, by definition


@dataclass(frozen=True, slots=True)
class Operand:
    """One tensor of an op: its size, how much of it is touched, what an element is, where it lives."""

    elements: int
    bits: int
    kind: Kind = Kind.FLOAT
    role: Role = Role.ACTIVATION
    touched_elements: int = -1  # -1: all
    fills: tuple[str, ...] = ()  # the roles it has in its op: a and b of MatMul(x, x) are one tensor

    @property
    def nbytes(self) -> int:
        """Bytes touched."""
        touched = self.elements if self.touched_elements < 0 else self.touched_elements
        return (touched * self.bits + 7) // 8


ROLES: dict[WorkKind, tuple[str, ...]] = {
    WorkKind.GEMM: ("a", "b", "bias"),
    WorkKind.ATTENTION: ("q", "k", "v", "mask"),
}


@dataclass(frozen=True, slots=True)
class Gemm:
    """`batch` independent products C[m,n] = A[m,k] B[k,n]. `weight_is_b`: B is constant (a linear layer);
    otherwise both operands are activations (or state). `taps` > 1: an implicit GEMM of a convolution whose
    input is read with that much overlap (k counts channels x taps)."""

    batch: int
    m: int
    n: int
    k: int
    weight_is_b: bool = True
    taps: int = 1

    @property
    def macs(self) -> int:
        return self.batch * self.m * self.n * self.k


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Scaled dot-product attention; `kv_len` counts every key seen, `q_len` the new queries.

    `causal`: query i sees keys up to kv_len - q_len + i. `window` > 0 limits that to the last `window`
    keys. `mask`: any other structure that is known before the run. `biased`: an additive mask or bias tensor
    is read, whose hidden pairs count as visible unless `mask` holds them."""

    batch: int
    q_len: int
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    kv_len: int
    causal: bool
    window: int = 0
    biased: bool = False
    turned: str = ""  # which of q, k, v and o lie in memory with the tokens outside the heads
    mask: Mask | Pattern | None = None

    @property
    def visible(self) -> Mask | Pattern:
        """The pairs that are left, as one structure."""
        if self.mask is not None:
            return self.mask
        if self.window:
            return window_mask(self.window) if self.causal else window_mask(self.window, None)
        return CAUSAL if self.causal else FULL

    @property
    def hides(self) -> bool:
        """Whether some pairs are masked."""
        return self.causal or self.mask is not None

    @property
    def visible_keys(self) -> NDArray[np.int64]:
        """Keys that each query sees [q_len]."""
        return self.visible.counts(self.q_len, self.kv_len)

    @property
    def visible_pairs(self) -> int:
        """Query-key pairs per head that the mask leaves (exact sum, not the 1/2 approximation)."""
        if self.mask is None and not self.window:
            first = self.kv_len - self.q_len + 1
            causal = self.q_len * first + self.q_len * (self.q_len - 1) // 2
            return causal if self.causal else self.q_len * self.kv_len
        return self.visible.pairs(self.q_len, self.kv_len)

    @property
    def macs(self) -> int:
        """q k^T and p v, masked pairs left out."""
        return self.batch * self.heads * self.visible_pairs * (self.head_dim + self.v_head_dim)

    @property
    def softmax_ops(self) -> tuple[tuple[str, int], ...]:
        """Element operations between the two products, by kind, over visible pairs: maximum, subtract,
        exponentiate, sum, divide by the sum, and the addition of a bias. (The scale is a factor of q.)"""
        n = self.batch * self.heads * self.visible_pairs
        adds = 3 if self.biased else 2
        return ("add", adds * n), ("div", n), ("exp", n), ("max", n)


@dataclass(frozen=True, slots=True)
class Vector:
    """`rows` x `cols` elements; `reduces`: each row is reduced (softmax, norms), so that a row is the
    smallest independent piece. `ops`: element operations by kind, total counts, kinds out of
    add mul div sqrt exp erf tanh log pow trig max cmp cast select. `kept` > 0: each row is sorted, and so
    many of its elements are kept, in order (all `cols`: a full sort); `cmp` then counts the comparisons of a
    sort on one processor, and a target replaces them by those of its own algorithm. `steps` > 1: every row
    is a chain of so many steps that wait for each other (a recurrence)."""

    rows: int
    cols: int
    ops: tuple[tuple[str, int], ...]
    reduces: bool = False
    kept: int = 0
    steps: int = 1

    @property
    def compare_exchanges(self) -> int:
        """Of all rows in a network of sorters, where every lane compares two elements and swaps them.

        Blocks of `kept` elements are sorted by Batcher's bitonic network, w/2 lg w (lg w + 1)/2 of them for w
        elements; then two sorted blocks at a time become the better half of both: w compare-exchanges that
        choose, and w/2 lg w that merge."""
        width = min(1 << max(self.kept - 1, 0).bit_length(), 1 << max(self.cols - 1, 0).bit_length())
        depth = width.bit_length() - 1
        blocks = -(-self.cols // width)
        sorting = blocks * (width // 2) * depth * (depth + 1) // 2
        return self.rows * (sorting + (blocks - 1) * (width + width // 2 * depth))


@dataclass(frozen=True)
class Work:
    """The whole cost-relevant content of one node. Exactly one of gemm, attention, vector is set for those
    kinds; GATHER, MOVE and VIEW carry operands only. `op` is the IR op name (for tables, not for pricing)."""

    op: str
    kind: WorkKind
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]
    gemm: Gemm | None = None
    attention: AttentionShape | None = None
    vector: Vector | None = None
    # MOVE and GATHER: elements that stay neighbours (a transpose of the last axis: 1); 0: long runs
    run: int = 0

    @cached_property
    def _hash(self) -> int:
        return hash(
            (self.op, self.kind, self.reads, self.writes, self.gemm, self.attention, self.vector, self.run)
        )

    def __hash__(self) -> int:
        """Computed once: targets look prices up by work for every node of every run."""
        return self._hash

    def position(self, role: str) -> int:
        """Index into `reads` of the operand that fills `role`, -1 when none does. A tensor that the op reads
        twice is one operand with two roles; operands of a kernel made by hand, which name no roles of their
        kind (`ROLES`), fill those in order."""
        order = ROLES.get(self.kind, ())
        if any(r in order for o in self.reads for r in o.fills):
            return next((i for i, o in enumerate(self.reads) if role in o.fills), -1)
        at = order.index(role) if role in order else -1
        return at if at < len(self.reads) else -1

    @property
    def factors(self) -> tuple[Operand, ...]:
        """The two operands that are multiplied first: a and b, q and k; one, when a tensor is multiplied with
        itself. The first two operands of an op that multiplies no matrices."""
        roles = ROLES.get(self.kind, ())[:2]
        if not roles:
            return self.reads[:2]
        return tuple(self.reads[at] for at in dict.fromkeys(map(self.position, roles)) if at >= 0)

    def besides(self, *roles: str) -> tuple[Operand, ...]:
        """The operands that fill none of `roles`."""
        taken = {self.position(role) for role in roles}
        return tuple(o for i, o in enumerate(self.reads) if i not in taken)

    def operand(self, role: str) -> Operand:
        """The operand that fills `role`.

        Raises:
            KeyError: none does.
        """
        at = self.position(role)
        if at < 0:
            raise KeyError(f"{self.op} has no operand '{role}'")
        return self.reads[at]

    @cached_property
    def macs(self) -> int:
        if self.gemm is not None:
            return self.gemm.macs
        return self.attention.macs if self.attention is not None else 0

    @cached_property
    def vector_ops(self) -> int:
        """Element operations: those of a VECTOR op, the softmax of an attention."""
        if self.kind is WorkKind.ATTENTION and self.attention is not None:
            return sum(n for _, n in self.attention.softmax_ops)
        return sum(n for _, n in self.vector.ops) if self.vector is not None else 0

    @cached_property
    def read_bytes(self) -> int:
        return sum(o.nbytes for o in self.reads)

    @cached_property
    def write_bytes(self) -> int:
        return sum(o.nbytes for o in self.writes)

    @cached_property
    def weight_bytes(self) -> int:
        return sum(o.nbytes for o in self.reads if o.role in (Role.WEIGHT, Role.CONSTANT))

    @cached_property
    def state_bytes(self) -> int:
        """State read plus state written."""
        return sum(o.nbytes for o in (*self.reads, *self.writes) if o.role is Role.STATE)

    @cached_property
    def nbytes(self) -> int:
        return 0 if self.kind is WorkKind.VIEW else self.read_bytes + self.write_bytes

    @property
    def arithmetic_intensity(self) -> float:
        """Flops (2 per MAC, 1 per vector op) per byte of operands: the roofline's x axis."""
        return (2 * self.macs + self.vector_ops) / self.nbytes if self.nbytes else 0.0
