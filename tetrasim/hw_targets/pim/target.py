"""The pim target: DRAM channels with in-bank MAC units, and the host unit that does the rest.

Theory: docs/pim.md. Time is exact through the DRAM engine (`hw_targets/common/dram`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tetrasim.errors import CapacityError
from tetrasim.hw_targets.common.target import Capacity, MemoryUse, ResourceUse, Target
from tetrasim.hw_targets.pim.config import PimConfig, precision_of
from tetrasim.hw_targets.pim.explain import explain
from tetrasim.hw_targets.pim.floor import least_energy
from tetrasim.hw_targets.pim.generate import simulate_runs
from tetrasim.hw_targets.pim.lower import lower
from tetrasim.hw_targets.pim.numerics import arithmetic_of
from tetrasim.hw_targets.pim.parts import PARTS
from tetrasim.hw_targets.pim.price import peaks, price
from tetrasim.hw_targets.pim.view import mapping_text
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.metric import Basis, ErrorRange
from tetrasim.units import si_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def capacity(graph: Graph, config: PimConfig) -> Capacity:
    """Weights and caches live in the banks; activations in the host's SRAM, one layer at a time.

    Raises:
        CapacityError: they do not fit; names both byte counts and the devices it would take.
    """
    have = config.bytes_per_channel * config.total_channels
    dram = MemoryUse("DRAM banks", have, graph.weight_bytes, graph.state_bytes, 0)
    if not dram.fits:
        need = -(-dram.used_bytes // (config.bytes_per_channel * config.channels))
        raise CapacityError(
            f"weights and state need {si_bytes(dram.used_bytes)}, the banks hold {si_bytes(have)}",
            where=graph.name,
            hint=f"use {need} devices (--set devices={need}), a smaller model or fewer bits per weight",
        )
    return Capacity("resident in banks", (dram,))


def resources(_graph: Graph, config: PimConfig) -> tuple[ResourceUse, ...]:
    """MAC units in use: all of them, in lockstep."""
    units = config.units.per_channel * config.total_channels
    return (ResourceUse("MAC units", units, units),)


def error_range(_config: PimConfig, _metric: str) -> ErrorRange | None:
    """Nothing measured on silicon is available for whole models: unvalidated (see VALIDATION.md)."""
    return None


def _validate() -> Sequence[DataclassInstance]:
    from tetrasim.hw_targets.pim.validate import validate  # reads the measurements

    return validate()


TARGET = Target(
    name="pim",
    title="PIM-DRAM",
    config_type=PimConfig,
    precision=precision_of,
    lower=lower,
    capacity=capacity,
    resources=resources,
    peaks=peaks,
    arithmetic=arithmetic_of,
    price=price,
    error_range=error_range,
    parts=PARTS,
    explain=explain,
    least_energy=least_energy,
    # command clocks equal the reference simulators' (tests/validation/test_pim_cases.py)
    time_basis=Basis.SIMULATED,
    simulate_runs=simulate_runs,
    mapping_text=mapping_text,
    validate=_validate,
)
