"""Why an op takes what it takes on a processor: its operands' levels, tiles, threads, time by part."""

from __future__ import annotations

from tetrasim.hw_targets.common.explanation import Constant, Explanation, Place
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import cost_of, mac_format
from tetrasim.hw_targets.cpu.gemm import gemm_cycles
from tetrasim.hw_targets.cpu.lower import runtime_works
from tetrasim.hw_targets.cpu.machine import LEVELS, Machine, machine_of
from tetrasim.hw_targets.cpu.placement import Placement, placed_alone, placements
from tetrasim.sim.ops.work import Work, WorkKind

_FORMULA = (
    "time = the longer of arithmetic and traffic, and the part of the shorter one that it does not hide"
    " (overlap); then packing, fork and join, the runtime's cost per node"
)


def explain(work: Work, config: CpuConfig, place: Place | None) -> tuple[Explanation, ...]:
    """One explanation: a runtime executes node by node."""
    machine = machine_of(config)
    if place is None:
        return (_explained(work, machine, placed_alone(work, machine)),)
    works = runtime_works(place.graph, config.runtime)
    where = placements(place.graph, works, machine)
    return (_explained(works[place.node], machine, where[place.node]),)


def _explained(work: Work, machine: Machine, placement: Placement) -> Explanation:
    cost = cost_of(work, machine, placement)
    spent: dict[str, float] = {}
    for name, seconds in cost.seconds:
        spent[name] = spent.get(name, 0.0) + 1e6 * seconds
    parts = tuple((name, us) for name, us in spent.items() if us)
    choices = [("threads", f"up to {machine.threads}")]
    if placement.reads:
        found = ", ".join(LEVELS[level] for level in placement.reads)
        choices.append(("operands read from", found))
        choices.append(("result written to", LEVELS[placement.writes]))
    constants: list[Constant] = []
    if work.kind is WorkKind.GEMM and work.gemm is not None:
        g = machine.config.gemm
        bits, bfloat = mac_format(work)
        rate = machine.config.mac_rate(bits, bfloat)
        cycles = gemm_cycles(work.gemm, g, rate, bits, machine.threads)
        choices += [
            ("tile", f"{g.tile_rows} rows x {g.tile_cols} columns, depth {g.depth_block}"),
            ("threads used", str(cycles.threads)),
        ]
        constants = [
            Constant("multiply-adds per cycle", rate, "per core", path="core.fp32_macs_per_cycle"),
            Constant("tile start", g.tile_overhead_cycles, "cycles", path="gemm.tile_overhead_cycles"),
            Constant("inner loop", g.efficiency, "of the peak", path="gemm.efficiency"),
        ]
    d = machine.config.dram
    constants += [
        Constant("clock", machine.clock_hz, "Hz", path="core.clock_hz"),
        Constant("DRAM, all cores", d.bandwidth_bytes_per_s, "B/s", path="dram.bandwidth_bytes_per_s"),
        Constant("per node", machine.config.overhead.node_ns, "ns", path="overhead.node_ns"),
    ]
    return Explanation(
        kernel=f"{work.op} as {work.kind} in {machine.config.runtime}",
        time_us=1e6 * cost.total_s,
        bound_by=max(parts, key=lambda p: p[1])[0] if parts else "nothing",
        formula=_FORMULA,
        parts=parts,
        level_bytes=tuple((name, float(b)) for name, b in cost.level_bytes),
        choices=tuple(choices),
        constants=tuple(constants),
    )
