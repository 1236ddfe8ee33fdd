"""The least energy of a run: what its multiply-adds take, and where weights surely come from off-chip memory,
their bytes there and through the buffers. The coefficients are those that price it (`demands.py`)."""

from __future__ import annotations

from functools import lru_cache

from tetrasim.hw_targets.common.target import EnergyFloor
from tetrasim.hw_targets.fpga.compression import stored_share
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of


def least_energy(graph: Graph, config: FpgaConfig) -> EnergyFloor:
    """A spatial design may have no node for an op that only moves data; an overlay runs them all."""
    power = config.power
    macs, weight_bytes, other_bytes, ops = _amounts(graph)
    numbers = config.numbers  # skipped products take nothing, compressed weights are fewer bytes
    energy_pj = macs * numbers.weight_density * power.mac_pj
    if config.mapping == "overlay" or graph.states:  # what keeps state cannot be a spatial pipeline
        energy_pj += ops * power.lut_op_pj + other_bytes * power.on_chip_pj_per_byte
        if config.off_chip is not None:
            each = 8.0 * config.off_chip.energy_pj_per_bit + 2 * power.on_chip_pj_per_byte
            energy_pj += weight_bytes * min(stored_share(numbers), 1.0) * each
    return EnergyFloor(power.static_w, energy_pj)


@lru_cache(maxsize=256)
def _amounts(graph: Graph) -> tuple[int, int, int, int]:
    """Multiply-adds, bytes of weights, of activations, and vector operations."""
    works = [work_of(node) for node in graph.nodes]
    priced = [w for w in works if w.nbytes]
    weights = sum(w.weight_bytes for w in priced)
    rest = sum(w.nbytes - w.weight_bytes - w.state_bytes for w in priced)
    return sum(w.macs for w in works), weights, rest, sum(w.vector_ops for w in priced)
