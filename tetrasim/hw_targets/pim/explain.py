"""Why an op takes what it takes in the banks: its steps on channels and host, and the commands of each."""

from __future__ import annotations

from tetrasim.hw_targets.common.explanation import Constant, Explanation, Place
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.items import Item, item_of, placement_of, plain_item
from tetrasim.hw_targets.pim.machine import LEVELS, machine
from tetrasim.hw_targets.pim.parts import PART_NAMES
from tetrasim.hw_targets.pim.price_steps import steps_of
from tetrasim.hw_targets.pim.schedule import build_plan, run_plan
from tetrasim.hw_targets.pim.steps import Step
from tetrasim.sim.ops.work import Work

_FORMULA = (
    "time = the commands of the busiest channel, each at the earliest clock that the DRAM timing table allows"
    " (refresh included), then the host's cycles; simulated command by command from idle banks"
)


def explain(work: Work, config: PimConfig, place: Place | None) -> tuple[Explanation, ...]:
    """One explanation: the op's steps, one after the other."""
    if place is None:
        return (_explained(plain_item(work), config),)
    node = place.graph.nodes[place.node]
    return (_explained(item_of(node, placement_of(place.graph)), config),)


def _explained(item: Item, config: PimConfig) -> Explanation:
    on, steps = machine(config), steps_of(item, config)
    out = run_plan(build_plan([[steps]], [()], [0], config.serial), on, 1)
    to_us = on.device.tck_ps * 1e-6
    parts = tuple(
        (name, int(c) * to_us) for name, c in zip(PART_NAMES, out.part[0].tolist(), strict=True) if c
    )
    t = on.device.timing
    known = [(name, t[name]) for name in ("nRCD", "nRP", "nCCDS", "nCCDL", "nBL", "nFAW") if name in t]
    return Explanation(
        kernel=f"{item.work.op} in {len(steps)} step{'s' * (len(steps) > 1)}",
        time_us=int(out.start[1]) * to_us,
        bound_by=max(parts, key=lambda p: p[1])[0] if parts else "nothing",
        formula=_FORMULA,
        parts=parts,
        level_bytes=tuple((n, float(b)) for n, b in zip(LEVELS, out.nbytes[0].tolist(), strict=True)),
        choices=(
            ("channels", f"{config.total_channels}, {config.units.per_channel} units in each"),
            *((f"step {i}: {step.kind}", _step(step)) for i, step in enumerate(steps, start=1)),
            *(
                (f"commands {name}", f"{int(n)} on the busiest channel")
                for name, n in zip(on.channel.names, out.counts[0].tolist(), strict=True)
                if n
            ),
        ),
        constants=(
            Constant("DRAM clock", 1e12 / on.device.tck_ps, "Hz", f"device file {config.device}"),
            *(Constant(name, float(n), "clocks", f"device file {config.device}") for name, n in known),
            Constant("inputs held per channel", config.units.inputs, "values", path="units.inputs"),
            Constant("MAC lanes per unit", config.units.lanes, "", path="units.lanes"),
            Constant("host adders", config.host.adders, "", path="host.adders"),
        ),
    )


def _step(step: Step) -> str:
    if step.on_channel:
        return (
            f"{step.work_channels / step.max_channels:.0%} of the channels' time at work, {step.macs:,} MACs"
        )
    return f"{step.host_cycles:,} host cycles"
