"""Ceilings of a PIM system, and single ops on an idle one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tetrasim.hw_targets.common.target import Peaks, Prices
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.items import plain_item
from tetrasim.hw_targets.pim.machine import machine
from tetrasim.hw_targets.pim.parts import PART_NAMES
from tetrasim.hw_targets.pim.price_steps import steps_of
from tetrasim.hw_targets.pim.schedule import build_plan, run_plan
from tetrasim.sim.ops.work import Work


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
