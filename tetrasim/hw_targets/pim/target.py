"""The pim target: DRAM channels with in-bank MAC units, and the host unit that does the rest.

Theory: docs/pim.md. Time is exact through the DRAM engine (`hw_targets/common/dram`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import CapacityError
from tetrasim.hw_targets.common.target import Capacity, MemoryUse, Peaks, Prices, ResourceUse, Target
from tetrasim.hw_targets.pim.config import PimConfig, precision_of
from tetrasim.hw_targets.pim.floor import least_energy
from tetrasim.hw_targets.pim.generate import simulate_runs
from tetrasim.hw_targets.pim.items import plain_item
from tetrasim.hw_targets.pim.lower import lower
from tetrasim.hw_targets.pim.machine import machine
from tetrasim.hw_targets.pim.numerics import arithmetic_of
from tetrasim.hw_targets.pim.parts import PART_NAMES, PARTS
from tetrasim.hw_targets.pim.price_steps import steps_of
from tetrasim.hw_targets.pim.schedule import build_plan, run_plan
from tetrasim.hw_targets.pim.view import mapping_text
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.metric import Basis, ErrorRange
from tetrasim.sim.ops.work import Work
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


def peaks(config: PimConfig) -> Peaks:
    """All units every column cycle; in-bank and off-chip bandwidth; the host's adders and SRAM."""
    on = machine(config)
    mac = on.channel.index("MAC16" if "MAC16" in on.channel.names else "MACab")
    per_second = 1e12 / (on.device.tck_ps * int(on.channel.stride[mac]))
    units = config.units.per_channel * config.total_channels
    bus = max(on.device.timing.get("nBL", 1), on.device.timing.get("nCCDS", 1), 1)
    return Peaks(
        macs_per_s=units * config.units.lanes * per_second,
        vector_ops_per_s=float(config.host.adders * config.host.clock_hz),
        bytes_per_s=(
            ("host SRAM", float(config.host.sram_bytes_per_cycle * config.host.clock_hz)),
            ("channel I/O", config.total_channels * on.device.burst_bytes * 1e12 / (on.device.tck_ps * bus)),
            ("bank array", units * on.device.burst_bytes * per_second),
        ),
    )


def price(works: Sequence[Work], config: PimConfig) -> Prices:
    """Each op alone on an idle system (attention with its keys in the banks)."""
    on = machine(config)
    latency = np.zeros(len(works))
    energy = np.zeros(len(works))
    bound: list[str] = []
    known: dict[Work, tuple[float, float, str]] = {}
    for i, work in enumerate(works):
        if work not in known:
            plan = build_plan([[steps_of(plain_item(work), config)]], [()], [0], config.serial)
            out = run_plan(plan, on, 1)
            seconds = int(out.start[1]) * on.device.tck_ps * 1e-12
            static = sum(w for _, w in on.static_power_w) * seconds
            largest = int(out.part[0].argmax())
            known[work] = (
                seconds * 1e6,
                float(out.energy[0].sum()) * 1e-6 + static * 1e6,
                PART_NAMES[largest],
            )
        latency[i], energy[i], name = known[work]
        bound.append(name)
    return Prices(latency, energy, tuple(bound))


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
    least_energy=least_energy,
    # command clocks equal the reference simulators' (tests/validation/test_pim_cases.py)
    time_basis=Basis.SIMULATED,
    simulate_runs=simulate_runs,
    mapping_text=mapping_text,
    validate=_validate,
)
