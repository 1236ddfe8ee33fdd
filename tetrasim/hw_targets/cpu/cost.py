"""Time and energy of one `Work` on one machine: arithmetic against memory, plus the software around it.

An op takes the larger of its arithmetic and its traffic (hardware prefetch overlaps them), then what cannot
overlap: packing, fork and join, the runtime's cost per node. Each second is booked under what it was spent
on, so that a decomposition of a run sums to its total.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tetrasim.hw_targets.cpu.attention import attention_pieces
from tetrasim.hw_targets.cpu.gemm import gemm_cycles, reread_bytes
from tetrasim.hw_targets.cpu.machine import DRAM, LEVELS, Machine
from tetrasim.hw_targets.cpu.vector import gather_cycles, move_cycles, vector_cycles
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.work import Operand, Work, WorkKind

PARTS = (
    "multiply-add",
    "GEMM tiles",
    "packing",
    "vector arithmetic",
    "copies",
    "L1 bandwidth",
    "L2 bandwidth",
    "L3 bandwidth",
    "DRAM weights",
    "DRAM state",
    "DRAM activations",
    "fork and join",
    "node overhead",
    "run overhead",
    "power limit",
)
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
        return max(self.seconds, key=lambda p: p[1])[0] if self.seconds else "free"


FREE = Cost((), (), (), 0)


@dataclass(frozen=True, slots=True)
class Streams:
    """Bytes per (level, what they are)."""

    amounts: tuple[tuple[int, str, int], ...]

    @property
    def from_dram(self) -> bool:
        """Some of it comes from main memory."""
        return any(level == DRAM for level, _, _ in self.amounts)

    def seconds(self, machine: Machine, threads: int) -> tuple[tuple[str, float], ...]:
        """Time per part, one after the other."""
        found: dict[str, float] = {}
        for level, what, nbytes in self.amounts:
            part = _part(level, what)
            found[part] = found.get(part, 0.0) + nbytes / machine.bandwidth(level, threads)
        return tuple(found.items())


@lru_cache(maxsize=1 << 16)
def cost_of(work: Work, machine: Machine, resident: int) -> Cost:
    """What `work` costs; `resident` is the level (index into LEVELS) that serves weights and state."""
    if work.kind is WorkKind.VIEW:
        return FREE
    if work.kind is WorkKind.ATTENTION:
        return _attention(work, machine, resident)
    if work.kind is WorkKind.GEMM:
        return _gemm(work, machine, resident)
    return _rows(work, machine, resident)


def _operands(work: Work, machine: Machine) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    """Reads and writes; a cache append that copies reads the old rows and writes all of them."""
    if work.op == "KVAppend" and machine.config.kv_append == "copy":
        whole = tuple(Operand(o.elements, o.bits, o.kind, o.role) for o in work.writes)
        return (*work.reads, *whole), whole
    return work.reads, work.writes


def streams_of(
    reads: Iterable[Operand], writes: Iterable[Operand], machine: Machine, resident: int
) -> Streams:
    """Traffic by level: weights and state from `resident`, activations from where they fit together."""
    totals = {"weights": 0, "state": 0, "activations": 0}
    for o in (*reads, *writes):
        role = o.role
        key = "weights" if role is Role.WEIGHT else "state" if role is Role.STATE else "activations"
        totals[key] += o.nbytes
    own = machine.level_for(totals["activations"])
    where = {"weights": resident, "state": resident, "activations": own}
    return Streams(tuple((where[k], k, n) for k, n in totals.items() if n))


def _gemm(work: Work, machine: Machine, resident: int) -> Cost:
    gemm = work.gemm
    assert gemm is not None
    bits, bfloat = _mac_format(work)
    g, clock = machine.config.gemm, machine.clock_hz
    cycles = gemm_cycles(gemm, g, machine.config.mac_rate(bits, bfloat), bits, machine.threads)
    arithmetic = (("multiply-add", cycles.ideal / clock), ("GEMM tiles", cycles.tiles / clock))
    streams = streams_of(work.reads, work.writes, machine, resident)
    traffic = streams.seconds(machine, cycles.threads)
    # The more rows use what was loaded, the fewer loads are in flight: far memory answers more slowly.
    slow = 1.0
    if streams.from_dram:
        slow += g.stream_slowdown * (min(gemm.m, g.tile_rows) - 1) / max(g.tile_rows - 1, 1)
    hidden = 1.0 if gemm.m == 1 else g.dram_overlap if streams.from_dram else g.overlap
    body = _overlapped(arithmetic, tuple((name, s * slow) for name, s in traffic), hidden)
    again, reach = reread_bytes(gemm, g, bits)
    level = machine.level_for(reach)
    if again and level > 1:
        rate = machine.bandwidth(level, cycles.threads) * g.reread_efficiency
        body = (*body, (_part(level, "activations"), again / rate))
    if cycles.packing:
        body = (*body, ("packing", cycles.packing / clock))
    if len(work.reads) > 2:
        body = (*body, ("vector arithmetic", _bias_s(work, machine, cycles.threads)))
    return _finish(work, machine, body, streams, cycles.threads, 1 + (len(work.reads) > 2))


def _bias_s(work: Work, machine: Machine, threads: int) -> float:
    """A bias is a pass of its own over the result."""
    v = machine.config.vector
    elements = work.writes[0].elements
    return elements * (2 * v.access_cycles + v.add) / machine.clock_hz / threads


def _part(level: int, what: str) -> str:
    return f"DRAM {what}" if level == DRAM else f"{LEVELS[level]} bandwidth"


def _overlapped(arithmetic: Seconds, traffic: Seconds, overlap: float) -> Seconds:
    """The longer of the two in full, and the part of the shorter that it does not hide."""
    longer, shorter = arithmetic, traffic
    if sum(s for _, s in arithmetic) < sum(s for _, s in traffic):
        longer, shorter = traffic, arithmetic
    if overlap >= 1:
        return longer
    return (*longer, *((name, s * (1 - overlap)) for name, s in shorter))


def _mac_format(work: Work) -> tuple[int, bool]:
    """Bits of the multiplier and whether it is bfloat: the wider of the two operands, or int8 weights alone
    (activations are quantised on the way in)."""
    first = work.reads[:2]
    if any(o.kind is Kind.INT and o.bits <= 8 for o in first):
        return 8, False
    return max((o.bits for o in first), default=32), any(o.kind is Kind.BFLOAT for o in first)


def _rows(work: Work, machine: Machine, resident: int) -> Cost:
    """Vector, gather and move work."""
    reads, writes = _operands(work, machine)
    clock, v = machine.clock_hz, machine.config.vector
    elements = sum(o.nbytes * 8 // o.bits for o in writes)
    touched = elements + sum(o.nbytes * 8 // o.bits for o in reads)
    if work.kind is WorkKind.VECTOR and work.vector is not None:
        part, alone = "vector arithmetic", vector_cycles(work.vector, touched, v)
    elif work.kind is WorkKind.GATHER:
        part, alone = "copies", gather_cycles(elements, writes, v)
    else:
        part, alone = "copies", move_cycles(elements, work.run, v)
    streams = streams_of(reads, writes, machine, resident)
    serial = max(alone / clock, sum(s for _, s in streams.seconds(machine, 1)))
    # Work shorter than handing it out stays on one thread.
    threads = machine.threads if serial > machine.config.overhead.fork_join_ns * 1e-9 else 1
    body = _overlapped(((part, alone / clock / threads),), streams.seconds(machine, threads), 1.0)
    return _finish(work, machine, body, streams, threads)


def _attention(work: Work, machine: Machine, resident: int) -> Cost:
    """Two batched products around a softmax, as separate passes over the score matrix."""
    shape = work.attention
    assert shape is not None
    bits, bfloat = _mac_format(work)
    pieces = attention_pieces(shape, machine.config)
    rate, clock, v = machine.config.mac_rate(bits, bfloat), machine.clock_hz, machine.config.vector
    ideal = tiles = packing = vector = 0.0
    threads = 1
    for gemm in pieces.gemms:
        c = gemm_cycles(gemm, machine.config.gemm, rate, bits, machine.threads)
        ideal, tiles, packing = ideal + c.ideal, tiles + c.tiles, packing + c.packing
        threads = max(threads, c.threads)
    for rows in pieces.vectors:
        vector += vector_cycles(rows, 2 * rows.rows * rows.cols, v) / threads
    scores = Operand(pieces.score_elements, 32, Kind.FLOAT, Role.ACTIVATION)
    # The scores are written by the first product, read and written by the softmax, read by the second.
    streams = streams_of((*work.reads, scores, scores), (*work.writes, scores, scores), machine, resident)
    body: Seconds = (
        ("multiply-add", ideal / clock),
        ("GEMM tiles", tiles / clock),
        ("vector arithmetic", vector / clock),
    )
    body = _overlapped(body, streams.seconds(machine, threads), machine.config.gemm.overlap)
    copied = move_cycles(pieces.moved_elements, shape.head_dim, v) + pieces.gather_rows * v.gather_row_cycles
    body = (*body, ("packing", packing / clock), ("copies", copied / clock / threads))
    return _finish(work, machine, tuple(p for p in body if p[1]), streams, threads, pieces.nodes)


def _finish(
    work: Work, machine: Machine, body: Seconds, streams: Streams, threads: int, nodes: int = 1
) -> Cost:
    """Add overheads, energy, and the power limit."""
    o = machine.config.overhead
    eager = machine.config.runtime == "eager"
    seconds = [*body, ("node overhead", nodes * (o.eager_op_ns if eager else o.node_ns) * 1e-9)]
    if threads > 1:
        seconds.append(("fork and join", nodes * o.fork_join_ns * 1e-9))
    total = sum(s for _, s in seconds)
    energy = _energy(work, machine, streams, threads, total)
    dynamic_s = sum(pj for _, pj in energy) * 1e-12
    allowed = machine.config.power.limit_w - machine.config.power.idle_w
    if dynamic_s > allowed * total:
        seconds.append(("power limit", dynamic_s / allowed - total))
    levels: dict[str, int] = {}
    for level, _, nbytes in streams.amounts:
        levels[LEVELS[level]] = levels.get(LEVELS[level], 0) + nbytes
    return Cost(tuple(seconds), tuple(levels.items()), energy, work.macs)


def _energy(
    work: Work, machine: Machine, streams: Streams, threads: int, total_s: float
) -> tuple[tuple[str, float], ...]:
    p = machine.config.power
    bits, bfloat = _mac_format(work)
    # A multiply-add in a narrower format costs the energy of the wide one divided by its rate.
    rate = machine.config.mac_rate(bits, bfloat) / machine.config.core.fp32_macs_per_cycle
    per_byte = (0.0, p.l2_byte_pj, p.l3_byte_pj, p.dram_byte_pj)
    found = {
        "active cores": p.core_active_w * threads * total_s * 1e12,
        "multiply-add": work.macs * p.fp32_mac_pj / rate,
        "vector arithmetic": work.vector_ops * p.vector_op_pj,
    }
    for level, _, nbytes in streams.amounts:
        if level:
            name = LEVELS[level]
            found[name] = found.get(name, 0.0) + nbytes * per_byte[level]
    return tuple((name, pj) for name, pj in found.items() if pj)
