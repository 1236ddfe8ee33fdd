"""Items to steps: one function per kind of work. Equal items are priced once."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from tetrasim.hw_targets.common.dram.program import command_count
from tetrasim.hw_targets.common.target import Aspect, aspect_without
from tetrasim.hw_targets.pim import hbm, in_bank, mapping
from tetrasim.hw_targets.pim.config import Dialect, PimConfig
from tetrasim.hw_targets.pim.host import cycles_of, move_cycles, softmax_ops, vector_cycles
from tetrasim.hw_targets.pim.items import TABLES, Item
from tetrasim.hw_targets.pim.layout import Layout
from tetrasim.hw_targets.pim.machine import layout, machine
from tetrasim.hw_targets.pim.steps import StateWrite, Step, ceil_div
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import AttentionShape, Gemm, Operand, Work, WorkKind

_UNPLANNED = frozenset(
    {
        "bytes_per_channel",
        "host",
        "refresh",
        "refresh_banks",
        "power_limit",
        "mac_spacing_cycles",
        "compat",
        "reference_refreshes",
        "exact_slow",
    }
)
_HOST_RATES = frozenset({"clock_hz", "power_w"})


def planned(config: PimConfig) -> Aspect[PimConfig]:
    """What the steps of a graph depend on: geometry, formats and the host's units; no clock and no power."""
    host = [value for name, value in config.host.__dict__.items() if name not in _HOST_RATES]
    return aspect_without(config, _UNPLANNED, *host)


def steps_of(item: Item, config: PimConfig) -> tuple[Step, ...]:
    """The steps of one node, in order."""
    return _steps_of(item, planned(config))


@lru_cache(maxsize=1 << 16)
def _steps_of(item: Item, used: Aspect[PimConfig]) -> tuple[Step, ...]:
    config = used.config
    on = layout(config)
    work = item.work
    steps: list[Step] = []
    if work.kind is WorkKind.GEMM:
        steps += _gemm(item, config, on)
    elif work.kind is WorkKind.ATTENTION:
        steps += _attention(item, config, on)
    elif work.kind is WorkKind.VECTOR:
        steps += _through_banks(item, _vector(item, config, on), config, on)
    elif work.kind is WorkKind.GATHER:
        steps += _gather(item, config, on)
    elif work.kind is WorkKind.MOVE and not item.state_writes:
        moved = _host("move", move_cycles(work.write_bytes, config.host), work.nbytes)
        steps += _through_banks(item, [*_parameters(work, config, on), moved], config, on)
    steps += [mapping.write_state(w, on) for w in item.state_writes]
    return tuple(steps)


def _host(kind: str, cycles: int, nbytes: int, macs: int = 0) -> Step:
    return Step(kind, host_cycles=cycles, sram_bytes=nbytes, macs=macs)


def _spilled(operands: tuple[Operand, ...], config: PimConfig) -> tuple[Operand, ...]:
    """Those, parameters aside, that the host's SRAM does not hold."""
    return tuple(
        o
        for o in operands
        if o.role not in (Role.WEIGHT, Role.CONSTANT) and o.elements * o.bits > 8 * config.host.sram_bytes
    )


def _through_banks(item: Item, steps: list[Step], config: PimConfig, on: Layout) -> list[Step]:
    """`steps` of the host between the reading and the writing of what its SRAM does not hold."""
    if steps and not any(step.host_cycles for step in steps):
        return steps  # done in the banks
    read = sum(o.nbytes for o in _spilled(item.work.reads, config)) if item.loose_in else 0
    written = sum(o.nbytes for o in _spilled(item.work.writes, config)) if item.loose_out else 0
    before = [replace(mapping.read_spread(read, on), kind="operand read", ahead=False)] if read else []
    return [*before, *steps, *([mapping.write_spread(written, on)] if written else [])]


def _parameters(work: Work, config: PimConfig, on: Layout) -> list[Step]:
    """Constant operands of host work come from the banks, unless the configuration keeps them in SRAM."""
    nbytes = sum(o.nbytes for o in work.reads if o.role is Role.WEIGHT)
    if not nbytes or config.parameters_in_sram:
        return []
    return [mapping.read_spread(nbytes, on)]


def in_banks(item: Item, config: PimConfig) -> str:
    """What of a VECTOR op the banks do: "table", "product" (AiM), "kernel" (HBM-PIM), or "" for nothing.
    HBM-PIM's registers add and multiply, and MOV applies a ReLU."""
    aim = config.dialect is Dialect.AIM
    if item.activation and config.activations == "banks":
        if aim and item.activation in TABLES:
            return "table"
        if not aim and item.activation == "Relu":
            return "kernel"
    if item.elementwise and config.elementwise == "banks":
        if not aim:
            return "kernel"
        return "product" if item.elementwise == "Mul" else ""
    return ""


def _vector(item: Item, config: PimConfig, on: Layout) -> list[Step]:
    work = item.work
    where = in_banks(item, config)
    elements = sum(o.elements for o in work.writes)
    written = sum(o.role is not Role.WEIGHT for o in work.reads)
    if where == "kernel":
        kind = {"Add": "element-wise sum", "Mul": "element-wise product"}.get(item.elementwise, "ReLU")
        return [hbm.elementwise(kind, elements, len(work.reads), written, on)]
    if where == "product":
        return [in_bank.product(elements, written, on)]
    if where == "table":
        steps = [in_bank.table_lookups(elements, on)]
        if item.gated and config.elementwise == "banks":
            steps.append(in_bank.product(elements, 2, on))
        elif item.gated:
            steps.append(_host("vector", cycles_of((("mul", elements),), 1, config.host), work.nbytes))
        return steps
    return [
        *_parameters(work, config, on),
        _host("vector", vector_cycles(work, config.host, item.activation), work.nbytes),
    ]


def _gemm(item: Item, config: PimConfig, on: Layout) -> list[Step]:
    work = item.work
    gemm = work.gemm
    assert gemm is not None
    steps: list[Step] = []
    bias = [o for o in work.besides("a", "b") if o.role is Role.WEIGHT]
    if bias and not config.parameters_in_sram:
        steps.append(mapping.read_spread(sum(o.nbytes for o in bias), on))
    vectors = gemm.batch * gemm.m
    many = gemm.weight_is_b and 0 < config.host_products_from <= vectors
    windows = not many and _is_grouped(gemm) and _host_is_faster(gemm, config, on)
    on_host = many or windows
    if windows:  # reach over rows: an image that the SRAM does not hold comes from the banks
        steps += _through_banks(replace(item, loose_in=True, loose_out=True), [], config, on)
    if on_host:
        weights = mapping.read_spread(work.operand("b").nbytes, on)
        steps.append(replace(weights, kind="weight read", ahead=False))  # the SRAM cannot hold them ahead
        cycles = cycles_of((("add", gemm.macs), ("mul", gemm.macs)), 1, config.host)
        steps.append(_host("host product", cycles, work.nbytes, gemm.macs))
    elif gemm.weight_is_b:
        steps.append(mapping.weights_gemv(gemm.k, gemm.n, vectors, on))
    else:
        if not item.resident:
            steps.append(mapping.write_spread(work.operand("b").nbytes, on))
        steps.append(mapping.batched_gemv(gemm.batch, gemm.k, gemm.n, gemm.m, on))
    outputs = gemm.batch * gemm.m * gemm.n
    splits = mapping.splits_of(gemm.k, gemm.n, on) if gemm.weight_is_b else 1
    adds = 0 if on_host else mapping.partial_sums(gemm.k, outputs, on, splits)
    if work.position("bias") >= 0 and not (on.bias_write and gemm.weight_is_b and not on_host):
        adds += outputs  # AiM's accumulators are written before each dot product anyway: with the bias
    if adds:
        late = adds if config.serial or on_host else min(adds, _last_results(on))
        steps.append(_host("partial sums", cycles_of((("add", late),), 1, config.host), 4 * adds))
    return steps


def _is_grouped(gemm: Gemm) -> bool:
    """A convolution in groups: many small matrices, of which each column fills rows of its own."""
    return gemm.weight_is_b and gemm.batch > 1


def _host_is_faster(gemm: Gemm, config: PimConfig, on: Layout) -> bool:
    """Whether the host's multipliers are done before the banks are: each of the banks' commands takes two
    clocks or more (tCCD), and every output is read back by itself."""
    vectors = gemm.batch * gemm.m
    banks = 2 * command_count(mapping.weights_gemv(gemm.k, gemm.n, vectors, on).instructions)
    device = machine(config).device
    host = cycles_of((("add", gemm.macs), ("mul", gemm.macs)), 1, config.host)
    return host * 10**12 < banks * device.tck_ps * config.host.clock_hz


def _last_results(on: Layout) -> int:
    """Additions left when the last results arrive, where the host adds while the channels compute: a partial
    sum or a lane, and a bias, of one burst from every channel. (The adders keep up with the bursts before:
    each takes at least a column access per 16 inputs of its dot products.)"""
    return 2 * on.units * on.channels


def _attention(item: Item, config: PimConfig, on: Layout) -> list[Step]:
    shape = item.work.attention
    assert shape is not None
    steps: list[Step] = []
    if not item.resident:
        for width, column_major in ((shape.head_dim, False), (shape.v_head_dim, True)):
            write = StateWrite(
                shape.kv_len, shape.kv_heads * width, column_major, config.element_bytes, shape.batch
            )
            steps.append(mapping.write_state(write, on))
    groups = shape.heads // shape.kv_heads
    runs = _visible_runs(shape)
    for seen, queries in runs:
        repeats = shape.batch * queries * groups
        steps.append(mapping.key_gemv(shape.kv_heads, shape.head_dim, seen, repeats, on))
    rows = shape.batch * shape.heads * shape.q_len
    elements = shape.batch * shape.heads * shape.visible_pairs
    ops = softmax_ops(rows, elements, rows * shape.head_dim)
    if shape.biased:
        ops = (*ops, ("add", elements))
    sums = mapping.partial_sums(shape.head_dim, elements, on)
    steps.append(_host("softmax", cycles_of((*ops, ("add", sums)), 3, config.host), 4 * elements))
    for seen, queries in runs:
        repeats = shape.batch * queries * groups
        steps.append(mapping.batched_gemv(shape.kv_heads, seen, shape.v_head_dim, repeats, on))
    sums = sum(
        mapping.partial_sums(seen, shape.batch * shape.heads * queries * shape.v_head_dim, on)
        for seen, queries in runs
    )
    if sums:
        steps.append(_host("partial sums", cycles_of((("add", sums),), 1, config.host), 4 * sums))
    return steps


_MOST_RUNS = 1024


def _visible_runs(shape: AttentionShape) -> list[tuple[int, int]]:
    """(keys seen, queries that see so many), by the first query that does. Beyond 1,024 different numbers,
    neighbours share their mean: a step of key tiles is much coarser than that."""
    seen, first, queries = np.unique(shape.visible_keys, return_index=True, return_counts=True)
    present = seen > 0
    seen, first, queries = seen[present], first[present], queries[present]
    order = np.argsort(first)
    seen, queries = seen[order], queries[order]
    if len(seen) > _MOST_RUNS:
        edges = np.arange(_MOST_RUNS) * len(seen) // _MOST_RUNS
        keys = np.add.reduceat(seen * queries, edges)
        queries = np.add.reduceat(queries, edges)
        seen = -(-keys // queries)
    return list(zip(seen.tolist(), queries.tolist(), strict=True))


def _gather(item: Item, config: PimConfig, on: Layout) -> list[Step]:
    """Rows picked from, or placed into, a tensor that lies in the banks or that the host holds."""
    work = item.work
    tables = tuple(o for o in work.reads if o.role is Role.WEIGHT)
    if item.loose_in:
        tables = (*tables, *_spilled(work.reads, config))
    placed = _spilled(work.writes, config) if item.loose_out else ()
    steps = [_rows("RD", o, work, item.row_elements, on) for o in tables if o.nbytes]
    nbytes = work.write_bytes if steps else work.nbytes
    steps.append(_host("gather", move_cycles(work.write_bytes, config.host), nbytes))
    return [*steps, *(_rows("WR", o, work, item.row_elements, on) for o in placed if o.nbytes)]


def _rows(command: str, operand: Operand, work: Work, row_elements: int, on: Layout) -> Step:
    """The touched part of an operand: row by row where an index says which, else one run of bytes."""
    whole = operand.nbytes * 8 >= operand.elements * operand.bits
    if whole and operand.role is not Role.WEIGHT:
        spread = mapping.read_spread if command == "RD" else mapping.write_spread
        kind = "operand read" if command == "RD" else "operand write"
        return replace(spread(operand.nbytes, on), kind=kind, ahead=False)
    row_bytes = max(1, (row_elements or work.run or 1) * operand.bits // 8)
    rows = max(1, ceil_div(operand.nbytes, row_bytes))
    return mapping.access_rows(command, rows, row_bytes, on)
