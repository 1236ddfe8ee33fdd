"""Many ops at once: the same costs as `cost.py`, as columns over all pieces of all ops.

An op alone in a repeated run finds its operands in the smallest level that holds them all. An attention is
the pieces that compute it. What follows are `cost.py`'s formulas on arrays; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.target import Prices
from tetrasim.hw_targets.cpu.attention import attention_works
from tetrasim.hw_targets.cpu.cost import (
    fresh_pages,
    independent_rows,
    mac_format,
    part_of,
    rows_traffic,
    unhindered_cycles,
)
from tetrasim.hw_targets.cpu.gemm import COLS_PER_STRIP, MACS_PER_THREAD
from tetrasim.hw_targets.cpu.machine import DRAM, Machine, machine_of
from tetrasim.hw_targets.cpu.parts import PART_NAMES
from tetrasim.hw_targets.cpu.placement import placed_alone
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import Work, WorkKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.hw_targets.cpu.config import CpuConfig

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

_ROLES = ("activations", "weights", "state")
_ROLE_OF = {Role.WEIGHT: 1, Role.STATE: 2}
_PART = {name: i for i, name in enumerate(PART_NAMES)}
_STREAM_PART = np.array([[_PART[part_of(level, role)] for role in _ROLES] for level in range(DRAM + 1)])


@dataclass(slots=True)
class _Columns:
    """One list per column; a piece is a product or a loop, a stream is one operand of a piece."""

    owner: list[int] = field(default_factory=list)  # the op that the piece belongs to
    # piece, batch, m, n, k, packs, bits, bfloat, elements with a bias, level of B
    gemms: list[tuple[int, ...]] = field(default_factory=list)
    loops: list[tuple[int, float, int, int]] = field(default_factory=list)  # piece, cycles, part, rows
    # piece, level, role, bytes, is it the B of a product
    streams: list[tuple[int, int, int, int, bool]] = field(default_factory=list)
    vector_ops: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)  # that fault


def price(works: Sequence[Work], config: CpuConfig) -> Prices:
    """Latency, energy and what bounds each op."""
    machine = machine_of(config)
    columns = _Columns()
    for i, work in enumerate(works):
        _collect(columns, i, work, machine)
    part, energy = _costs(columns, machine)
    owner = np.array(columns.owner, np.int64)
    seconds = np.zeros((len(works), len(PART_NAMES)))
    np.add.at(seconds, owner, part)
    total = seconds.sum(axis=1)
    dynamic_pj = np.bincount(owner, energy, len(works)) if len(owner) else np.zeros(len(works))
    bound = tuple(
        PART_NAMES[p] if s else "free"
        for p, s in zip(seconds.argmax(axis=1).tolist(), total.tolist(), strict=True)
    )
    return Prices(total * 1e6, dynamic_pj * 1e-6 + config.power.idle_w * total * 1e6, bound)


def _collect(columns: _Columns, owner: int, work: Work, machine: Machine) -> None:
    """Append the pieces of one op."""
    if work.kind is WorkKind.VIEW:
        return
    level = placed_alone(work, machine).writes
    if work.kind is not WorkKind.ATTENTION:
        _piece(columns, owner, work, (level,) * len(work.reads), level, machine)
        return
    inputs = {id(o): level for o in work.reads}
    for piece in attention_works(work, machine.config):
        if piece.kind is WorkKind.VIEW:
            continue
        # What is re-read from one tensor lies where the tensor fits, however often it is touched.
        own = machine.level_for(sum(o.elements * o.bits // 8 for o in (*piece.reads, *piece.writes)))
        _piece(columns, owner, piece, tuple(inputs.get(id(o), own) for o in piece.reads), own, machine)


def _piece(
    columns: _Columns, owner: int, work: Work, levels: tuple[int, ...], written: int, machine: Machine
) -> None:
    at = len(columns.owner)
    columns.owner.append(owner)
    columns.vector_ops.append(work.vector_ops if work.vector is not None else 0)
    columns.pages.append(fresh_pages(work, machine))
    gemm = work.gemm
    if gemm is None:
        reads, writes = rows_traffic(work, machine)
        part, cycles = unhindered_cycles(work, reads, writes, machine.config.vector)
        columns.loops.append((at, cycles, _PART[part], independent_rows(work)))
        for i, o in enumerate(reads):
            near = levels[i] if i < len(levels) else max(levels, default=written)
            columns.streams.append((at, near, _ROLE_OF.get(o.role, 0), o.nbytes, False))
        columns.streams += [(at, written, _ROLE_OF.get(o.role, 0), o.nbytes, False) for o in writes]
        return
    bits, bfloat = mac_format(work)
    packs = not gemm.weight_is_b and gemm.m > 1
    bias = work.writes[0].elements if work.position("bias") >= 0 else 0
    at_a, at_b = work.position("a"), work.position("b")
    a, b = work.reads[at_a], work.reads[at_b]
    columns.gemms.append((at, gemm.batch, gemm.m, gemm.n, gemm.k, packs, bits, bfloat, bias, levels[at_b]))
    if at_a != at_b:
        columns.streams.append((at, levels[at_a], _ROLE_OF.get(a.role, 0), a.nbytes, False))
    columns.streams.append((at, levels[at_b], _ROLE_OF.get(b.role, 0), b.nbytes, True))
    columns.streams += [(at, written, _ROLE_OF.get(o.role, 0), o.nbytes, False) for o in work.writes]


def _costs(columns: _Columns, machine: Machine) -> tuple[Floats, Floats]:
    """Seconds by part and picojoules of each piece."""
    config, pieces = machine.config, len(columns.owner)
    part = np.zeros((pieces, len(PART_NAMES)))
    threads = np.ones(pieces, np.int64)
    nodes = np.ones(pieces)
    mac_pj = np.zeros(pieces)
    streams = np.array(columns.streams, np.int64).reshape(-1, 5).T
    _loops(columns, streams, machine, part, threads)
    _gemms(columns, streams, machine, part, threads, nodes, mac_pj)
    o = config.overhead
    part[:, _PART["node overhead"]] += (
        nodes * (o.eager_op_ns if config.runtime == "eager" else o.node_ns) * 1e-9
    )
    part[:, _PART["fork and join"]] += np.where(threads > 1, nodes * o.fork_join_ns * 1e-9, 0.0)
    pages = np.array(columns.pages, np.int64)
    part[:, _PART["page faults"]] += pages * o.page_fault_ns * 1e-9 / threads
    total = part.sum(axis=1)
    p = config.power
    byte_pj = np.array([0.0, p.l2_byte_pj, p.l3_byte_pj, p.dram_byte_pj])
    energy = p.core_active_w * threads * total * 1e12 + mac_pj
    energy += np.array(columns.vector_ops, float).reshape(pieces) * p.vector_op_pj
    energy += np.bincount(streams[0], streams[3] * byte_pj[streams[1]], pieces)[:pieces]
    excess = energy * 1e-12 / (p.limit_w - p.idle_w) - total
    part[:, _PART["power limit"]] += np.maximum(excess, 0.0)
    return part, energy


def _rates(
    machine: Machine,
    level: Ints,
    threads: Ints,
    slowdown: Floats | float = 1.0,
    shared_slowdown: Floats | float = 1.0,
) -> Floats:
    """`Machine.bandwidth` on arrays."""
    core = np.array([at.core_bytes_per_s for at in machine.levels])[level]
    every = np.array([at.bytes_per_s for at in machine.levels])[level]
    rates: Floats = np.minimum(core / slowdown * threads, every / shared_slowdown)
    return rates


def _loops(columns: _Columns, streams: Ints, machine: Machine, part: Floats, threads: Ints) -> None:
    """Vector, gather and move pieces: the longer of arithmetic and traffic."""
    if not columns.loops:
        return
    piece, cycles, booked, rows = (np.array(c) for c in zip(*columns.loops, strict=True))
    pieces = len(threads)
    mine = np.isin(streams[0], piece)
    at, level, role, nbytes = streams[:4, mine]
    alone = np.zeros(pieces)
    alone[piece] = cycles / machine.clock_hz
    serial = np.maximum(alone, np.bincount(at, nbytes / _rates(machine, level, np.ones_like(at)), pieces))
    shared = serial[piece] > machine.config.overhead.fork_join_ns * 1e-9
    threads[piece] = np.where(shared, np.minimum(machine.threads, rows), 1)
    seconds = nbytes / _rates(machine, level, threads[at])
    traffic = np.bincount(at, seconds, pieces)
    arithmetic = alone / threads
    hidden = arithmetic >= traffic
    part[piece, booked] += np.where(hidden, arithmetic, 0.0)[piece]
    np.add.at(part, (at, _STREAM_PART[level, role]), np.where(hidden[at], 0.0, seconds))


def _gemms(
    columns: _Columns,
    streams: Ints,
    machine: Machine,
    part: Floats,
    threads: Ints,
    nodes: Floats,
    mac_pj: Floats,
) -> None:
    """Products: `gemm.py` and `cost.py` on arrays."""
    if not columns.gemms:
        return
    config, g, v = machine.config, machine.config.gemm, machine.config.vector
    piece, batch, m, n, k, packs, bits, bfloat, bias, b_level = np.array(columns.gemms, np.int64).T
    macs = batch * m * n * k
    used = np.minimum(machine.threads, macs // MACS_PER_THREAD + 1)
    rate = np.array(
        [config.mac_rate(b, bool(f)) for b, f in zip(bits.tolist(), bfloat.tolist(), strict=True)]
    )
    busiest = _busiest_cycles(machine, batch, m, n, k, used, rate)
    ideal = np.minimum(macs / (rate * used), busiest)
    packing = np.where(packs, batch * k * n * bits / 8 / g.pack_bytes_per_cycle / used, 0.0)
    arithmetic, clock = busiest / machine.clock_hz, machine.clock_hz
    threads[piece] = used
    far = b_level == DRAM
    full = np.zeros(len(threads))
    full[piece] = np.where(far, (np.minimum(m, g.tile_rows) - 1) / max(g.tile_rows - 1, 1), 0.0)
    mine = np.isin(streams[0], piece)
    at, level, role, nbytes, is_b = streams[:, mine]
    few_loads = np.where(is_b == 1, full[at], 0.0)
    slow, slow_shared = 1.0 + g.stream_slowdown * few_loads, 1.0 + g.shared_stream_slowdown * few_loads
    seconds = nbytes / _rates(machine, level, threads[at], slow, slow_shared)
    traffic = np.bincount(at, seconds, len(threads))[piece]
    shown = 1.0 - np.where(m == 1, 1.0, np.where(far, g.dram_overlap, g.overlap))
    by_traffic = arithmetic < traffic
    part[piece, _PART["multiply-add"]] += ideal / clock * np.where(by_traffic, shown, 1.0)
    part[piece, _PART["GEMM tiles"]] += (busiest - ideal) / clock * np.where(by_traffic, shown, 1.0)
    left = np.zeros(len(threads))
    left[piece] = np.where(by_traffic, 1.0, shown)
    np.add.at(part, (at, _STREAM_PART[level, role]), seconds * left[at])
    _rereads(machine, piece, batch, m, n, k, bits, used, part)
    part[piece, _PART["packing"]] += packing / clock
    part[piece, _PART["vector arithmetic"]] += bias * (2 * v.access_cycles + v.add) / clock / used
    nodes[piece] += bias > 0
    mac_pj[piece] = macs * config.power.fp32_mac_pj / (rate / config.core.fp32_macs_per_cycle)


def _busiest_cycles(
    machine: Machine, batch: Ints, m: Ints, n: Ints, k: Ints, used: Ints, rate: Floats
) -> Floats:
    """Cycles of the busiest thread without packing."""
    g = machine.config.gemm
    parts = -(-used // batch)
    strips = -(-n // COLS_PER_STRIP)
    wide = n > m
    parts = np.where(wide, np.minimum(parts, strips), np.minimum(parts, m))
    rows = np.where(wide, m, -(-m // parts))
    cols = np.where(wide, np.minimum(-(-strips // parts) * COLS_PER_STRIP, n), n)
    cols = -(-cols // g.col_granularity) * g.col_granularity
    whole, rest = np.divmod(rows, g.tile_rows)
    half = max(g.tile_rows // 2, 1)
    halves = rest // half
    rest = rest % half

    def step(height: Ints | int) -> Floats:
        floor = cols / g.tile_cols * g.step_floor_cycles
        cycles: Floats = np.maximum(height * cols / (rate * g.efficiency), floor)
        return cycles

    steps = whole * step(g.tile_rows) + halves * step(half) + np.where(rest, step(rest), 0.0)
    starts = (whole + halves + (rest > 0)) * -(-cols // g.tile_cols) * -(-k // g.depth_block)
    alone: Floats = steps * k + starts * g.tile_overhead_cycles + g.call_overhead_cycles
    busiest: Floats = alone * -(-batch * parts // used)
    return busiest


def _rereads(
    machine: Machine,
    piece: Ints,
    batch: Ints,
    m: Ints,
    n: Ints,
    k: Ints,
    bits: Ints,
    used: Ints,
    part: Floats,
) -> None:
    """What passes again from beyond L2."""
    g = machine.config.gemm
    a, c = m * k * bits // 8, m * n * 4
    again = batch * (a * (-(-n // g.col_block) - 1) + 2 * c * (-(-k // g.depth_block) - 1))
    reach = a + m * g.col_block * 4
    level = np.searchsorted([at.capacity_bytes for at in machine.levels[:DRAM]], reach)
    beyond = (again > 0) & (level > 1)
    share = 1 - machine.levels[1].capacity_bytes / reach
    seconds = again * share / (_rates(machine, level, used) * g.reread_efficiency)
    part[piece, _STREAM_PART[level, 0]] += np.where(beyond, seconds, 0.0)
