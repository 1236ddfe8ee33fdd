"""The least energy of a run: every product of weights keeps cores busy for its multiply-adds at their peak,
spends the energy of each, and reads its weights from the level that holds the working set, or farther."""

from __future__ import annotations

from functools import lru_cache

from tetrasim.hw_targets.common.target import EnergyFloor
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import mac_format
from tetrasim.hw_targets.cpu.machine import machine_of
from tetrasim.hw_targets.cpu.placement import resident_level
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import WorkKind


def least_energy(graph: Graph, config: CpuConfig) -> EnergyFloor:
    """Products of weights alone: attention may be approximate, and fused ops may not run at all."""
    machine, power = machine_of(config), config.power
    per_byte = (0.0, power.l2_byte_pj, power.l3_byte_pj, power.dram_byte_pj)
    weight_pj = min(per_byte[resident_level(graph, machine) :])
    fastest_hz = max(machine.clock_hz, config.core.single_clock_hz)
    energy_pj = 0.0
    for bits, bfloat, macs, nbytes in _products(graph):
        rate = config.mac_rate(bits, bfloat)
        arithmetic_pj = power.fp32_mac_pj / (rate / config.core.fp32_macs_per_cycle)
        active_pj = power.core_active_w * 1e12 / (rate * fastest_hz)
        energy_pj += macs * (arithmetic_pj + active_pj) + nbytes * weight_pj
    return EnergyFloor(power.idle_w, energy_pj)


@lru_cache(maxsize=256)
def _products(graph: Graph) -> tuple[tuple[int, bool, int, int], ...]:
    """(bits, bfloat, multiply-adds, bytes of weights) of the products of weights, by format."""
    found: dict[tuple[int, bool], tuple[int, int]] = {}
    for work in map(work_of, graph.nodes):
        if work.kind is WorkKind.GEMM and work.gemm is not None and work.gemm.weight_is_b:
            macs, nbytes = found.get(mac_format(work), (0, 0))
            found[mac_format(work)] = macs + work.macs, nbytes + work.operand("b").nbytes
    return tuple((*form, *amounts) for form, amounts in found.items())
