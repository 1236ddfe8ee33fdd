"""What a PIM system spends time on, and what helps against it. Theory: docs/pim.md."""

from __future__ import annotations

from tetrasim.hw_targets.common.parts import change, part_names
from tetrasim.hw_targets.common.target import Advice, Part
from tetrasim.hw_targets.pim.config import Dialect, PimConfig, PowerLimit


def _devices(c: PimConfig) -> tuple[Advice, ...]:
    return change("spread the matrices over more devices", "devices", 2 * c.devices)


def _rows(c: PimConfig) -> tuple[Advice, ...]:
    if c.power_limit is not PowerLimit.NONE:
        return change("carry the current of an all-bank activation", "power_limit", "none")
    return _devices(c)


def _io(c: PimConfig) -> tuple[Advice, ...]:
    return change("keep more of the vector in each channel", "units.inputs", 2 * c.units.inputs)


def _modes(c: PimConfig) -> tuple[Advice, ...]:
    if c.dialect is Dialect.HBM and c.elementwise == "banks":
        return change("stay in one mode: add and multiply on the host", "elementwise", "host")
    return _io(c)


def _refresh(c: PimConfig) -> tuple[Advice, ...]:
    if c.refresh == "row":
        return change("refresh between instructions, as late as the device allows", "refresh", "instruction")
    return ()


def _in_bank(c: PimConfig) -> tuple[Advice, ...]:
    return tuple(
        a
        for name in ("activations", "elementwise")
        if getattr(c, name) == "banks"
        for a in change("do it on the host", name, "host")
    )


def _host(c: PimConfig) -> tuple[Advice, ...]:
    wider = (("host.adders", 2 * c.host.adders), ("host.multipliers", 2 * c.host.multipliers))
    overlap = change("let host and channels work at once", "serial", False) if c.serial else ()
    return (*overlap, Advice("give the host unit more adders and multipliers", wider))


PARTS: tuple[Part[PimConfig], ...] = (
    Part("row activation", _rows),
    Part("column MAC", _devices),
    Part("channel I/O", _io),
    Part("mode switch", _modes),
    Part("refresh", _refresh),
    Part("in-bank function", _in_bank),
    Part("host arithmetic", _host),
)
PART_NAMES = part_names(PARTS)
