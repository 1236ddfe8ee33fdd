"""Time and energy of one `Work` on one machine: arithmetic against memory, plus the software around it.

An op takes the larger of its arithmetic and its traffic (hardware prefetch overlaps them), then what cannot
overlap: packing, fork and join, the runtime's cost per node. Each second is booked under what it was spent
on, so that a decomposition of a run sums to its total.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tetrasim.hw_targets.cpu.attention import attention_pieces
from tetrasim.hw_targets.cpu.config import VectorConfig
from tetrasim.hw_targets.cpu.gemm import gemm_cycles, reread_bytes
from tetrasim.hw_targets.cpu.machine import DRAM, LEVELS, Machine
from tetrasim.hw_targets.cpu.placement import Placement
from tetrasim.hw_targets.cpu.vector import gather_cycles, move_cycles, vector_cycles
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.work import Operand, Work, WorkKind

PAGE_BYTES = 4096
KEPT_BYTES = 32 << 20  # glibc gives larger blocks back to the system when they are freed (mallopt(3))
Seconds = tuple[tuple[str, float], ...]  # by part, in the order booked
COMPONENTS = ("active cores", "multiply-add", "vector arithmetic", "L2", "L3", "DRAM")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by part (in the order booked), bytes by level, picojoules by component."""

    seconds: tuple[tuple[str, float], ...]
    level_bytes: tuple[tuple[str, int], ...]
    energy_pj: tuple[tuple[str, float], ...]
    macs: int

    @property
    def total_s(self) -> float:
        return sum(s for _, s in self.seconds)

    @property
    def bound_by(self) -> str:
        parts = _summed((self.seconds,))
        return max(parts, key=lambda name: parts[name]) if parts else "free"


FREE = Cost((), (), (), 0)


@dataclass(frozen=True, slots=True)
class Streams:
    """Bytes per (level, what they are)."""

    amounts: tuple[tuple[int, str, int], ...]

    def seconds(
        self, machine: Machine, threads: int, core_slowdown: float = 1.0, shared_slowdown: float = 1.0
    ) -> tuple[tuple[str, float], ...]:
        """Time per part, one after the other; slowdowns as in `Machine.bandwidth`."""
        found: dict[str, float] = {}
        for level, what, nbytes in self.amounts:
            part = part_of(level, what)
            rate = machine.bandwidth(level, threads, core_slowdown, shared_slowdown)
            found[part] = found.get(part, 0.0) + nbytes / rate
        return tuple(found.items())


@lru_cache(maxsize=1 << 16)
def cost_of(work: Work, machine: Machine, placement: Placement) -> Cost:
    """What `work` costs with its operands where `placement` says."""
    if work.kind is WorkKind.VIEW:
        return FREE
    if work.kind is WorkKind.ATTENTION:
        return _attention(work, machine, placement)
    if work.kind is WorkKind.GEMM:
        return _gemm(work, machine, placement)
    return _rows(work, machine, placement)


def _what(role: Role) -> str:
    return "weights" if role is Role.WEIGHT else "state" if role is Role.STATE else "activations"


@lru_cache(maxsize=1 << 14)
def streams_of(reads: tuple[Operand, ...], writes: tuple[Operand, ...], placement: Placement) -> Streams:
    """Traffic by level."""
    amounts = [(placement.read(i), _what(o.role), o.nbytes) for i, o in enumerate(reads)]
    amounts += [(placement.writes, _what(o.role), o.nbytes) for o in writes]
    return Streams(tuple(a for a in amounts if a[2]))


def _gemm(work: Work, machine: Machine, placement: Placement) -> Cost:
    gemm = work.gemm
    assert gemm is not None
    bits, bfloat = mac_format(work)
    g, clock = machine.config.gemm, machine.clock_hz
    cycles = gemm_cycles(gemm, g, machine.config.mac_rate(bits, bfloat), bits, machine.threads)
    arithmetic = (("multiply-add", cycles.ideal / clock), ("GEMM tiles", cycles.tiles / clock))
    far = placement.read(work.position("b")) == DRAM
    # The more rows use what was loaded, the fewer loads are in flight: far memory answers more slowly.
    full = (min(gemm.m, g.tile_rows) - 1) / max(g.tile_rows - 1, 1) if far else 0.0
    slow, slow_shared = 1.0 + g.stream_slowdown * full, 1.0 + g.shared_stream_slowdown * full
    at_a, at_b = work.position("a"), work.position("b")
    b, biased = work.reads[at_b], work.position("bias") >= 0
    a = work.reads[at_a]
    first = ((placement.read(at_a), _what(a.role), a.nbytes),) if at_a != at_b and a.nbytes else ()
    others = Streams((*first, *streams_of((), work.writes, placement).amounts))
    weight = Streams(((placement.read(at_b), _what(b.role), b.nbytes),))
    traffic = (
        *weight.seconds(machine, cycles.threads, slow, slow_shared),
        *others.seconds(machine, cycles.threads),
    )
    # A product of one row is one stream of loads and multiply-adds.
    body = _overlapped(arithmetic, traffic, 1.0 if gemm.m == 1 else g.dram_overlap if far else g.overlap)
    again, reach = reread_bytes(gemm, g, bits)
    level = machine.level_for(reach)
    if again and level > 1:
        # What L2 holds of it is found there.
        far_share = 1 - machine.levels[1].capacity_bytes / reach
        rate = machine.bandwidth(level, cycles.threads) * g.reread_efficiency
        body = (*body, (part_of(level, "activations"), again * far_share / rate))
    if cycles.packing:
        body = (*body, ("packing", cycles.packing / clock))
    if biased:
        body = (*body, ("vector arithmetic", _bias_s(work, machine, cycles.threads)))
    streams = Streams((*weight.amounts, *others.amounts))
    return _finish(work, machine, body, streams, cycles.threads, 1 + biased)


def _bias_s(work: Work, machine: Machine, threads: int) -> float:
    """A bias is a pass of its own over the result."""
    v = machine.config.vector
    elements = work.writes[0].elements
    return elements * (2 * v.access_cycles + v.add) / machine.clock_hz / threads


def part_of(level: int, what: str) -> str:
    """Under what traffic of `what` (weights, state, activations) from a level is booked."""
    return f"DRAM {what}" if level == DRAM else f"{LEVELS[level]} bandwidth"


def _overlapped(arithmetic: Seconds, traffic: Seconds, overlap: float) -> Seconds:
    """The longer of the two in full, and the part of the shorter that it does not hide."""
    longer, shorter = arithmetic, traffic
    if sum(s for _, s in arithmetic) < sum(s for _, s in traffic):
        longer, shorter = traffic, arithmetic
    if overlap >= 1:
        return longer
    return (*longer, *((name, s * (1 - overlap)) for name, s in shorter))


@lru_cache(maxsize=1 << 14)
def mac_format(work: Work) -> tuple[int, bool]:
    """Bits of the multiplier and whether it is bfloat: the wider of the two operands, or int8 weights alone
    (activations are quantised on the way in)."""
    first = work.factors
    if any(o.kind is Kind.INT and o.bits <= 8 for o in first):
        return 8, False
    return max((o.bits for o in first), default=32), any(o.kind is Kind.BFLOAT for o in first)


def _rows(work: Work, machine: Machine, placement: Placement) -> Cost:
    """Vector, gather and move work."""
    reads, writes = rows_traffic(work, machine)
    part, alone = unhindered_cycles(work, reads, writes, machine.config.vector)
    streams = streams_of(reads, writes, placement)
    clock = machine.clock_hz
    serial = max(alone / clock, sum(s for _, s in streams.seconds(machine, 1)))
    # Work shorter than handing it out stays on one thread.
    most = min(machine.threads, independent_rows(work))
    threads = most if serial > machine.config.overhead.fork_join_ns * 1e-9 else 1
    body = _overlapped(((part, alone / clock / threads),), streams.seconds(machine, threads), 1.0)
    return _finish(work, machine, body, streams, threads)


def independent_rows(work: Work) -> int:
    """Pieces that threads can share: a row that is sorted, or a chain of steps, is one thread's."""
    vector = work.vector
    return vector.rows if vector is not None and (vector.kept or vector.steps > 1) else 1 << 30


def rows_traffic(work: Work, machine: Machine) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    """What such work really reads and writes."""
    if work.op != "KVAppend" or machine.config.kv_append != "copy":
        return work.reads, work.writes
    # The old rows are read and all rows are written.
    writes = tuple(Operand(o.elements, o.bits, o.kind, o.role) for o in work.writes)
    return (writes[0], *work.reads[1:]), writes


def unhindered_cycles(
    work: Work, reads: Sequence[Operand], writes: Sequence[Operand], vector: VectorConfig
) -> tuple[str, float]:
    """The part that it is booked under, and its cycles on one core with the data at hand."""
    elements = sum(o.nbytes * 8 // o.bits for o in writes)
    if work.kind is WorkKind.VECTOR and work.vector is not None:
        touched = elements + sum(o.nbytes * 8 // o.bits for o in reads)
        full = sum(o.elements == writes[0].elements for o in reads)
        return "vector arithmetic", vector_cycles(work.vector, touched, full, vector)
    if work.kind is WorkKind.GATHER:
        return "copies", gather_cycles(elements, work.run or 1024, vector)
    return "copies", move_cycles(elements, work.run, vector)


def _attention(work: Work, machine: Machine, placement: Placement) -> Cost:
    """The ops that compute it, one after the other; the bytes and energy of all of them."""
    costs = []
    for piece in attention_pieces(work, machine.config):
        # What is re-read from one tensor lies where the tensor fits, however often it is touched.
        own = machine.level_for(piece.nbytes)
        levels = tuple([own if i < 0 else placement.read(i) for i in piece.inputs])
        costs.append(cost_of(piece.work, machine, Placement(levels, own)))
    seconds, levels_total, energy = (
        _summed(getattr(c, name) for c in costs) for name in ("seconds", "level_bytes", "energy_pj")
    )
    return Cost(
        tuple(seconds.items()),
        tuple((name, round(n)) for name, n in levels_total.items()),
        tuple(energy.items()),
        sum(c.macs for c in costs),
    )


def _summed(rows: Iterable[Iterable[tuple[str, float]]]) -> dict[str, float]:
    """Amounts by name over all rows, in order of first appearance."""
    found: dict[str, float] = {}
    for row in rows:
        for name, amount in row:
            found[name] = found.get(name, 0.0) + amount
    return found


def _finish(
    work: Work, machine: Machine, body: Seconds, streams: Streams, threads: int, nodes: int = 1
) -> Cost:
    """Add overheads, energy, and the power limit."""
    o = machine.config.overhead
    eager = machine.config.runtime == "eager"
    seconds = [*body, ("node overhead", nodes * (o.eager_op_ns if eager else o.node_ns) * 1e-9)]
    if threads > 1:
        seconds.append(("fork and join", nodes * o.fork_join_ns * 1e-9))
    pages = fresh_pages(work, machine)
    if pages:
        seconds.append(("page faults", pages * o.page_fault_ns * 1e-9 / threads))
    total = 0.0
    for _, s in seconds:
        total += s
    macs = work.macs
    energy = _energy(work, macs, machine, streams, threads, total)
    dynamic_s = 0.0
    for _, pj in energy:
        dynamic_s += pj * 1e-12
    allowed = machine.config.power.limit_w - machine.config.power.idle_w
    if dynamic_s > allowed * total:
        seconds.append(("power limit", dynamic_s / allowed - total))
    levels: dict[str, int] = {}
    for level, _, nbytes in streams.amounts:
        levels[LEVELS[level]] = levels.get(LEVELS[level], 0) + nbytes
    return Cost(tuple(seconds), tuple(levels.items()), energy, macs)


def fresh_pages(work: Work, machine: Machine) -> int:
    """Pages of large results that an eager framework gets anew from the system for every op, and that fault
    when they are first written. onnxruntime plans its buffers and keeps them."""
    if machine.config.runtime != "eager" or work.kind is WorkKind.VIEW:
        return 0
    return sum(o.nbytes // PAGE_BYTES for o in work.writes if o.nbytes >= KEPT_BYTES)


def _energy(
    work: Work, macs: int, machine: Machine, streams: Streams, threads: int, total_s: float
) -> tuple[tuple[str, float], ...]:
    p = machine.config.power
    per_byte = (0.0, p.l2_byte_pj, p.l3_byte_pj, p.dram_byte_pj)
    found = {"active cores": p.core_active_w * threads * total_s * 1e12}
    if macs:
        # A multiply-add in a narrower format costs the energy of the wide one divided by its rate.
        bits, bfloat = mac_format(work)
        rate = machine.config.mac_rate(bits, bfloat) / machine.config.core.fp32_macs_per_cycle
        found["multiply-add"] = macs * p.fp32_mac_pj / rate
    if work.vector is not None:
        found["vector arithmetic"] = work.vector_ops * p.vector_op_pj
    for level, _, nbytes in streams.amounts:
        if level:
            name = LEVELS[level]
            found[name] = found.get(name, 0.0) + nbytes * per_byte[level]
    return tuple((name, pj) for name, pj in found.items() if pj)
