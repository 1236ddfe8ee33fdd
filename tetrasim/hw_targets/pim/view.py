"""`tetrasim show mapping`: where every matrix lives, in rows of every bank, and its row-hit rate."""

from __future__ import annotations

from collections.abc import Iterable

from tetrasim.hw_targets.common.dram.program import Command, Instruction, Loop, Row
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.items import item_of, placement_of
from tetrasim.hw_targets.pim.layout import Layout
from tetrasim.hw_targets.pim.machine import layout, machine
from tetrasim.hw_targets.pim.mapping import weights_gemv
from tetrasim.hw_targets.pim.price_steps import in_banks
from tetrasim.hw_targets.pim.steps import ceil_div
from tetrasim.sim.ir.graph import Graph, Role
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.workload import Workload
from tetrasim.units import si_bytes

_MACS = ("MAC16", "MACab")
_WHERE = {
    "": "on the host",
    "table": "in the banks, by table (WRMAC16, AF16, RDAF16)",
    "product": "in the banks (WR, EWMUL16, RD)",
    "kernel": "in the banks, one launch each (WR, EWab, MOVab, RD)",
}


def accesses_and_rows(instructions: Iterable[Instruction]) -> tuple[int, int]:
    """(all-bank column accesses, all-bank row openings) of an instruction list."""
    accesses = rows = 0
    for item in instructions:
        if isinstance(item, Command) and item.name in _MACS:
            accesses += item.repeats
        elif isinstance(item, Row) and not item.bank:
            rows += item.advance
        elif isinstance(item, Loop):
            inner = accesses_and_rows(item.body)
            accesses += item.count * inner[0]
            rows += item.count * inner[1]
    return accesses, rows


def mapping_text(graph: Graph, config: PimConfig, workload: Workload) -> str:
    """One line per matrix in order of use, then the caches, then the total per bank."""
    on = layout(config)
    device = machine(config).device
    system = f"{config.total_channels} channels x {device.banks} banks, rows of {on.row_bytes} bytes"
    units = f"{on.units} MAC units of {on.lanes} lanes per channel"
    lines = [
        f"{system} ({on.row_accesses} column accesses), {units}",
        f"{'node':44s} {'matrix':>15s} {'per bank':>9s} {'rows':>13s} {'row hits':>9s}  layout",
    ]
    at = 0
    seen: set[object] = set()
    for node in graph.nodes:
        work = work_of(node)
        if work.gemm is None or not work.gemm.weight_is_b or node.inputs[1] in seen:
            continue
        seen.add(node.inputs[1])
        step = weights_gemv(work.gemm.k, work.gemm.n, 1, on)
        accesses, rows = accesses_and_rows(step.instructions)
        columns = ceil_div(work.gemm.n, on.group * on.channels)
        hits = 1 - rows / accesses if accesses else 0.0
        lines.append(
            f"{node.name[:44]:44s} {f'{work.gemm.k}x{work.gemm.n}':>15s} {columns:>9d} "
            f"{f'{at}-{at + rows - 1}':>13s} {100 * hits:8.2f}%  {_chunks(work.gemm.k, on)}"
        )
        at += rows
    at = _tables(graph, seen, on, lines, at)
    at = _caches(graph, workload, on, lines, at)
    at = _functions(graph, config, on, lines, at)
    limit = config.bytes_per_channel // (device.banks * on.row_bytes)
    lines.append(f"{at} of {limit} rows of every bank ({si_bytes(at * on.row_bytes)} of each bank)")
    return "\n".join(lines) + "\n"


def _chunks(k: int, on: Layout) -> str:
    """How the input vector meets the buffer."""
    count = ceil_div(k, on.inputs)
    whole = "columns follow each other without gaps"
    return whole if count == 1 else f"{count} chunks of up to {on.inputs} inputs, partial sums on the host"


def _tables(graph: Graph, seen: set[object], on: Layout, lines: list[str], at: int) -> int:
    """Other weights: looked up or read row by row."""
    others = [v for v in graph.weights if v not in seen and len(v.type.shape) > 1]
    for value in others:
        rows = ceil_div(value.type.nbytes, on.channels * on.units * on.row_bytes)
        shape = "x".join(map(str, value.type.shape))
        place = f"{at}-{at + rows - 1}"
        lines.append(f"{value.name[:44]:44s} {shape:>15s} {'-':>9s} {place:>13s} {'-':>9s}  read by the host")
        at += rows
    small = sum(v.type.nbytes for v in graph.weights if v not in seen and len(v.type.shape) <= 1)
    if small:
        rows = ceil_div(small, on.channels * on.units * on.row_bytes)
        lines.append(
            f"{'norm scales and biases':44s} {si_bytes(small):>15s} {'-':>9s} {f'{at}-{at + rows - 1}':>13s} "
            f"{'-':>9s}  spread over all banks"
        )
        at += rows
    return at


def _functions(graph: Graph, config: PimConfig, on: Layout, lines: list[str], at: int) -> int:
    """Where activations and element-wise operations run, and the rows that their tables and operands take."""
    placement = placement_of(graph)
    places: dict[tuple[str, str], int] = {}
    tables: set[str] = set()
    for item in (item_of(node, placement) for node in graph.nodes):
        if not (item.activation or item.elementwise):
            continue
        where = in_banks(item, config)
        if where == "table":
            tables.add(item.activation)
        key = (item.work.op, _WHERE[where])
        places[key] = places.get(key, 0) + 1
    for (op, where), count in sorted(places.items()):
        lines.append(f"{f'{op}, {count} times':44s} {where}")
    for name in sorted(tables):
        size = si_bytes(2 * config.table_intervals * config.element_bytes)
        rows = ceil_div(2 * config.table_intervals * config.element_bytes, on.row_bytes)
        lines.append(
            f"{'table of ' + name:44s} {size:>15s} {'-':>9s} {f'{at}-{at + rows - 1}':>13s} {'-':>9s}  "
            f"in every bank, {config.table_intervals} intervals"
        )
        at += rows
    if any(where in (_WHERE["product"], _WHERE["kernel"]) for _, where in places):
        lines.append(f"{'operands and results of kernels':44s} {'':>15s} {'-':>9s} {f'{at}-{at}':>13s}")
        at += 1
    return at


def _caches(graph: Graph, workload: Workload, on: Layout, lines: list[str], at: int) -> int:
    """K and V with space for every token of the workload."""
    placement = placement_of(graph)
    tokens = workload.prompt + max(workload.generate - 1, 0) + 1
    for node in graph.nodes:
        for write in item_of(node, placement).state_writes:
            if write.column_major:
                columns = ceil_div(write.width * write.sequences, on.channels * on.units)
                rows = columns * ceil_div(tokens * write.element_bytes, on.row_bytes)
                how = f"V: column-major, {columns} columns per bank, room for {tokens} tokens"
            else:
                each = ceil_div(write.width * write.element_bytes, on.row_bytes)
                rows = ceil_div(tokens * write.sequences, on.channels * on.units) * each
                how = f"K: row-major, a token fills {each} rows of one bank, room for {tokens} tokens"
            name = next((v.name for v in node.outputs if v.role is Role.STATE), node.name)
            place = f"{at}-{at + rows - 1}"
            shape = f"{tokens * write.sequences}x{write.width}"
            lines.append(f"{name[:44]:44s} {shape:>15s} {'-':>9s} {place:>13s} {'-':>9s}  {how}")
            at += rows
    return at
