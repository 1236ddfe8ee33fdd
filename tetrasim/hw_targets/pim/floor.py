"""The least energy of a run: standby of all channels and the host, and for every multiply-add its share of an
all-bank command at full lanes (`machine.py` says what a command costs)."""

from __future__ import annotations

from functools import lru_cache

from tetrasim.hw_targets.common.target import EnergyFloor
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.machine import machine
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of

_MACS = ("MAC16", "MACab")


def least_energy(graph: Graph, config: PimConfig) -> EnergyFloor:
    """Partly filled lanes, activations of rows and transfers come on top."""
    on = machine(config)
    units = config.units
    commands = [on.energy_pj[i].sum() for i, name in enumerate(on.channel.names) if name in _MACS]
    each_pj = float(min(commands, default=0.0)) / (units.per_channel * units.lanes)
    return EnergyFloor(sum(watts for _, watts in on.static_power_w), _macs(graph) * each_pj)


@lru_cache(maxsize=256)
def _macs(graph: Graph) -> int:
    return sum(work_of(node).macs for node in graph.nodes)
