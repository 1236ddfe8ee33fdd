"""Items to steps: one function per kind of work. Equal items are priced once."""

from __future__ import annotations

from functools import lru_cache

from tetrasim.hw_targets.common.target import Aspect, aspect_without
from tetrasim.hw_targets.pim import mapping
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.host import cycles_of, move_cycles, softmax_ops, vector_cycles
from tetrasim.hw_targets.pim.items import Item
from tetrasim.hw_targets.pim.machine import layout
from tetrasim.hw_targets.pim.mapping import Layout
from tetrasim.hw_targets.pim.steps import StateWrite, Step, ceil_div
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import AttentionShape, Work, WorkKind

_UNPLANNED = frozenset(
    {
        "bytes_per_channel",
        "host",
        "refresh",
        "power_limit",
        "mac_spacing_cycles",
        "mode_switching",
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
        steps += [
            *_parameters(work, config, on),
            _host("vector", vector_cycles(work, config.host), work.nbytes),
        ]
    elif work.kind is WorkKind.GATHER:
        steps += _gather(item, config, on)
    elif work.kind is WorkKind.MOVE and not item.state_writes:
        steps += [
            *_parameters(work, config, on),
            _host("move", move_cycles(work.write_bytes, config.host), work.nbytes),
        ]
    steps += [mapping.write_state(w, on) for w in item.state_writes]
    return tuple(steps)


def _host(kind: str, cycles: int, nbytes: int, macs: int = 0) -> Step:
    return Step(kind, host_cycles=cycles, sram_bytes=nbytes, macs=macs)


def _parameters(work: Work, config: PimConfig, on: Layout) -> list[Step]:
    """Constant operands of host work come from the banks, unless the configuration keeps them in SRAM."""
    nbytes = sum(o.nbytes for o in work.reads if o.role is Role.WEIGHT)
    if not nbytes or config.parameters_in_sram:
        return []
    return [mapping.read_spread(nbytes, on)]


def _gemm(item: Item, config: PimConfig, on: Layout) -> list[Step]:
    work = item.work
    gemm = work.gemm
    assert gemm is not None
    steps: list[Step] = []
    if gemm.weight_is_b:
        steps.append(mapping.weights_gemv(gemm.k, gemm.n, gemm.batch * gemm.m, on))
    else:
        if not item.resident and len(work.reads) > 1:
            steps.append(mapping.write_spread(work.reads[1].nbytes, on))
        steps.append(mapping.batched_gemv(gemm.batch, gemm.k, gemm.n, gemm.m, on))
    outputs = gemm.batch * gemm.m * gemm.n
    splits = mapping.splits_of(gemm.k, gemm.n, on) if gemm.weight_is_b else 1
    adds = mapping.partial_sums(gemm.k, outputs, on, splits)
    bias = [o for o in work.reads[2:] if o.role is Role.WEIGHT]
    if bias and not config.parameters_in_sram:
        steps.append(mapping.read_spread(sum(o.nbytes for o in bias), on))
    adds += outputs if len(work.reads) > 2 else 0
    if adds:
        steps.append(_host("partial sums", cycles_of((("add", adds),), 1, config.host), 4 * adds))
    return steps


def _attention(item: Item, config: PimConfig, on: Layout) -> list[Step]:
    shape = item.work.attention
    assert shape is not None
    steps: list[Step] = []
    if not item.resident:
        for width, column_major in ((shape.head_dim, False), (shape.v_head_dim, True)):
            write = StateWrite(
                shape.batch * shape.kv_len, shape.kv_heads * width, column_major, config.element_bytes
            )
            steps.append(mapping.write_state(write, on))
    groups = shape.heads // shape.kv_heads
    runs = _visible_runs(shape)
    for seen, queries in runs:
        repeats = shape.batch * queries * groups
        steps.append(mapping.key_gemv(shape.kv_heads, shape.head_dim, seen, repeats, on))
    rows = shape.batch * shape.heads * shape.q_len
    elements = shape.batch * shape.heads * shape.visible_pairs
    ops = softmax_ops(rows, elements)
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


def _visible_runs(shape: AttentionShape) -> list[tuple[int, int]]:
    """(keys seen, queries that see so many), from the first query on."""
    if not shape.causal:
        return [(min(shape.kv_len, shape.window) if shape.window else shape.kv_len, shape.q_len)]
    first = shape.kv_len - shape.q_len + 1
    runs: list[tuple[int, int]] = []
    for i in range(shape.q_len):
        seen = min(first + i, shape.window) if shape.window else first + i
        if runs and runs[-1][0] == seen:
            runs[-1] = (seen, runs[-1][1] + 1)
        else:
            runs.append((seen, 1))
    return runs


def _gather(item: Item, config: PimConfig, on: Layout) -> list[Step]:
    """Rows of a table that lies in the banks, or of something the host holds."""
    work = item.work
    tables = [o for o in work.reads if o.role is Role.WEIGHT]
    touched = sum(o.nbytes for o in tables)
    if not touched:
        return [_host("gather", move_cycles(work.write_bytes, config.host), work.nbytes)]
    row_bytes = max(1, item.row_elements * tables[0].bits // 8)
    return [
        mapping.read_rows(max(1, ceil_div(touched, row_bytes)), row_bytes, on),
        _host("gather", move_cycles(work.write_bytes, config.host), work.write_bytes),
    ]
