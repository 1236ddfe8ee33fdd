"""What each op asks of the overlay's units: cycles of its own, operations and bytes, whatever clocks, memory
bandwidth and energies are.

An engine that multiplies `dot_length` inputs with `columns` weight columns per cycle takes
m * ceil(k / dot_length) * ceil(n / columns) cycles for C[m,n] = A[m,k] B[k,n]; heads of an attention are
pipelined through score, softmax and value products (DFX, arXiv 2209.10797; FlightLLM, arXiv 2401.03868).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from tetrasim.hw_targets.common.target import Aspect
from tetrasim.hw_targets.fpga.compression import stored_share
from tetrasim.hw_targets.fpga.config import FpgaConfig, Overlay
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import AttentionShape, Gemm, Vector, Work, WorkKind

ENGINE, VECTOR_UNIT, PORT = "matrix engine", "vector unit", "memory port"
FUNCTIONS = frozenset({"exp", "erf", "tanh", "sqrt", "log", "pow", "trig", "div"})
_STEP_CYCLES = 8  # from one step of a recurrence to the next: the latency of a multiplier and an adder
HEAD_GROUPS = 8  # heads are software-pipelined in at most this many groups
OFF_CHIP_ROLES = frozenset({Role.WEIGHT, Role.STATE, Role.CONSTANT})
_OWN_PART = {ENGINE: "MAC padding", VECTOR_UNIT: "vector arithmetic", PORT: "on-chip movement"}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of a task by where they live."""

    on_chip: int = 0
    weights: int = 0
    state: int = 0

    @property
    def off_chip(self) -> int:
        return self.weights + self.state

    def part(self, group: int, groups: int) -> Traffic:
        """The bytes of one of `groups` equal pieces; the pieces sum to the whole."""
        cut = [
            n * (group + 1) // groups - n * group // groups for n in (self.on_chip, self.weights, self.state)
        ]
        return Traffic(*cut)

    def scaled(self, share: float) -> Traffic:
        """`share` of each."""
        return Traffic(int(self.on_chip * share), int(self.weights * share), int(self.state * share))

    def minus(self, other: Traffic) -> Traffic:
        """What `other` leaves."""
        return Traffic(self.on_chip - other.on_chip, self.weights - other.weights, self.state - other.state)


@dataclass(frozen=True, slots=True)
class Demand:
    """One task. It takes the longer of `own_cycles` and of streaming its off-chip bytes; `ideal_cycles` of
    its own would keep every multiplier busy. `access`: it waits for the first word from off-chip memory."""

    kind: str
    resource: str
    own_cycles: int
    traffic: Traffic
    ideal_cycles: int = 0
    macs: int = 0
    ops: int = 0
    access: bool = False
    after: tuple[int, ...] = ()

    @property
    def own_part(self) -> str:
        """What its cycles beyond the ideal ones are spent on."""
        return _OWN_PART[self.resource]


def unpriced(config: FpgaConfig) -> Aspect[FpgaConfig]:
    """What demands depend on: the overlay's widths, and whether there is memory beside the device."""
    unit = config.overlay
    widths = (unit.dot_length, unit.columns, unit.vector_lanes, unit.function_lanes)
    numbers = config.numbers
    weights = (numbers.weight_density, stored_share(numbers))
    return Aspect((*widths, *weights, config.off_chip is None), config)


@lru_cache(maxsize=1 << 16)
def demands_of(work: Work, used: Aspect[FpgaConfig]) -> tuple[Demand, ...]:
    """The tasks of one op; equal work is taken apart once."""
    traffic, unit = _traffic(work, used.config), used.config.overlay
    if work.kind is WorkKind.VIEW:
        return ()
    if work.kind is WorkKind.GEMM and work.gemm is not None:
        kept = used.config.numbers.weight_density if work.gemm.weight_is_b else 1.0
        return (_gemm(work.gemm, traffic, unit, kept),)
    if work.kind is WorkKind.ATTENTION and work.attention is not None:
        return _attention(work.attention, traffic, unit)
    if work.kind is WorkKind.VECTOR and work.vector is not None:
        reread = sum(o.elements for o in work.writes) > work.vector.rows
        return (_vector(work.vector, work.vector_ops, traffic, unit, reread),)
    return (_move(work, traffic, unit),)


def _traffic(work: Work, config: FpgaConfig) -> Traffic:
    share = stored_share(config.numbers) if work.kind is WorkKind.GEMM else 1.0
    weights = sum(
        ceil(o.nbytes * share) if o.role is Role.WEIGHT else o.nbytes
        for o in work.reads
        if o.role in (Role.WEIGHT, Role.CONSTANT)
    )
    state = sum(o.nbytes for o in (*work.reads, *work.writes) if o.role is Role.STATE)
    rest = sum(o.nbytes for o in (*work.reads, *work.writes) if o.role not in OFF_CHIP_ROLES)
    if config.off_chip is None:
        return Traffic(rest + weights + state)
    return Traffic(rest, weights, state)


def _cycles(count: float, per_cycle: float) -> int:
    return ceil(count / per_cycle)


def _engine(
    kind: str,
    macs: int,
    cycles: int,
    traffic: Traffic,
    unit: Overlay,
    *,
    access: bool = False,
    after: tuple[int, ...] = (),
) -> Demand:
    ideal = min(_cycles(macs, unit.macs_per_cycle), cycles)
    return Demand(kind, ENGINE, cycles, traffic, ideal, macs, access=access, after=after)


def _gemm(gemm: Gemm, traffic: Traffic, unit: Overlay, kept: float) -> Demand:
    """`kept`: share of the weights that were not pruned; products with the others are skipped."""
    cycles = gemm.batch * gemm.m * ceil(gemm.k * kept / unit.dot_length) * ceil(gemm.n / unit.columns)
    return _engine("gemm", ceil(gemm.macs * kept), cycles, traffic, unit)


def _attention(shape: AttentionShape, traffic: Traffic, unit: Overlay) -> tuple[Demand, ...]:
    """Score, softmax and value tasks per group of heads, interleaved so that the engine works on group i + 1
    while the vector unit normalises group i."""
    pairs_of = shape.batch * shape.heads
    groups = min(pairs_of, HEAD_GROUPS)
    keys = max(ceil(shape.visible_pairs / shape.q_len), 1)
    score_unit = shape.q_len * ceil(shape.head_dim / unit.dot_length) * ceil(keys / unit.columns)
    value_unit = shape.q_len * ceil(keys / unit.dot_length) * ceil(shape.v_head_dim / unit.columns)
    share = [pairs_of * (g + 1) // groups - pairs_of * g // groups for g in range(groups)]
    head_share = shape.head_dim / (shape.head_dim + shape.v_head_dim)
    tasks: list[Demand] = []
    place: dict[tuple[str, int], int] = {}

    def add(kind: str, group: int, waits: tuple[tuple[str, int], ...]) -> None:
        after = tuple(len(tasks) - place[w] for w in waits)
        pairs = share[group] * shape.visible_pairs
        part = traffic.part(group, groups)
        scored = part.scaled(head_share)
        if kind == "scores":
            access = bool(traffic.off_chip) and group == 0
            cycles = share[group] * score_unit
            tasks.append(
                _engine(kind, pairs * shape.head_dim, cycles, scored, unit, after=after, access=access)
            )
        elif kind == "softmax":
            tasks.append(_softmax(pairs, unit, after, 6 if shape.biased else 5))
        else:
            cycles = share[group] * value_unit
            tasks.append(
                _engine(kind, pairs * shape.v_head_dim, cycles, part.minus(scored), unit, after=after)
            )
        place[kind, group] = len(tasks) - 1

    for step in range(groups + 1):
        if step < groups:
            add("scores", step, ())
            add("softmax", step, (("scores", step),))
        if step > 0:
            add("values", step - 1, (("softmax", step - 1),))
    return tuple(tasks)


def _softmax(pairs: int, unit: Overlay, after: tuple[int, ...], each: int) -> Demand:
    """max, subtract, exp, sum, scale (and a bias: `each` operations a pair): three passes over the lanes, one
    result per function lane."""
    cycles = max(_cycles(3 * pairs, unit.vector_lanes), _cycles(pairs, unit.function_lanes))
    return Demand("softmax", VECTOR_UNIT, cycles, Traffic(), ops=each * pairs, after=after)


def _vector(vector: Vector, ops: int, traffic: Traffic, unit: Overlay, reread: bool) -> Demand:
    """Long chains of simple operations are pipelined: a lane does one element per cycle whatever the chain
    length; statistics come before normalising, so the row is read again (`reread`), unless they are all
    that is asked for, as of a sum."""
    if vector.kept:
        return Demand("vector", VECTOR_UNIT, _sort_cycles(vector, unit), traffic, ops=ops)
    functions = sum(n for kind, n in vector.ops if kind in FUNCTIONS)
    if vector.steps > 1:  # the lanes go through the chain of operations of a step, one after the other
        lanes = min(unit.vector_lanes, vector.rows * vector.cols // vector.steps)
        cycles = max(_cycles(ops, max(lanes, 1)), _cycles(functions, unit.function_lanes))
        return Demand("vector", VECTOR_UNIT, cycles + vector.steps * _STEP_CYCLES, traffic, ops=ops)
    passes = 3 if vector.reduces and reread else 1
    elements = passes * vector.rows * vector.cols
    cycles = max(_cycles(elements, unit.vector_lanes), _cycles(functions, unit.function_lanes))
    return Demand("vector", VECTOR_UNIT, cycles, traffic, ops=ops)


def _sort_cycles(vector: Vector, unit: Overlay) -> int:
    """The comparators of the lanes sort streams of one element a cycle. A stream that keeps k elements is a
    queue of k comparators that shifts the rest away, or a merge sorter of log2(n) comparators whose last
    merge starts when half of the row is in (Knuth, volume 3, 5.2.4): the smaller of both is built, and one
    row is never more than one stream."""
    merging = max(vector.cols - 1, 1).bit_length()
    streams = min(max(unit.vector_lanes // min(vector.kept, merging), 1), vector.rows)
    rows = ceil(vector.rows / streams)
    return rows * vector.cols + (vector.cols if vector.kept > merging else vector.kept)


def _move(work: Work, traffic: Traffic, unit: Overlay) -> Demand:
    """Gathers, cache appends and copies: the memory port, or the on-chip network when nothing leaves the
    chip; read and written through both ports of the buffers."""
    width = unit.vector_lanes * max((o.bits for o in (*work.reads, *work.writes)), default=8) / 8
    cycles = _cycles(traffic.on_chip, 2 * width)
    return Demand(str(work.kind), PORT, cycles, traffic, access=bool(traffic.off_chip))
