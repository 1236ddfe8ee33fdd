"""A PIM system compiled for simulation: the channel with its dialect, and what each command costs.

Energy per command (V x mA x ns, as DRAM data sheets are read): activation + precharge of every bank it
opens; a burst's array energy per bank that reads or writes, of which an in-bank MAC spends `array_fraction`;
interface energy per bit that crosses the channel's pins; MAC logic per MAC command; refresh per REFab;
background from IDD2N over the whole run plus IDD3N - IDD2N while a row is open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.channel import Channel, build_channel
from tetrasim.hw_targets.common.dram.device import Command, Device
from tetrasim.hw_targets.common.dram.energy import activation_pj, burst_pj, refresh_pj, standby_w
from tetrasim.hw_targets.common.dram.program import Dialect as Commands
from tetrasim.hw_targets.common.dram.refresh import NO_REFRESH, RefreshMode, refresh_of
from tetrasim.hw_targets.common.dram.tables import Tables, compile_device
from tetrasim.hw_targets.common.dram.yaml_device import find_device
from tetrasim.hw_targets.common.target import Aspect
from tetrasim.hw_targets.pim.config import Dialect, PimConfig, PowerLimit, Units, check
from tetrasim.hw_targets.pim.in_bank import GROUP_BANKS
from tetrasim.hw_targets.pim.layout import Layout, layout_of
from tetrasim.hw_targets.pim.parts import PART_NAMES
from tetrasim.sim.engine.program import Resource

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = ("host SRAM", "channel I/O", "bank array")
COMPONENTS = ("row activation", "bank array", "MAC logic", "channel I/O", "refresh", "background", "host")
_PART_OF = {
    "ACT": 0, "ACT4": 0, "ACT16": 0, "ACTab": 0, "PREpb": 0, "PREA": 0, "PREab": 0,
    "MAC16": 1, "MACab": 1,
    "WRGB": 2, "WRMAC16": 2, "RDMAC16": 2, "RDAF16": 2, "RD": 2, "WR": 2, "WRGRF": 2, "WRGRFodd": 2,
    "MOVab": 2,
    "TMOD": 3, "ENTER": 3, "LEAVE": 3, "REFab": 4, "REFpb": 4, "AF16": 5, "EWMUL16": 5, "EWab": 5,
}  # fmt: skip
_ACTIVATES = {"ACT": 1, "ACT4": 4}
_IO = ("WRGB", "WRMAC16", "RDMAC16", "RDAF16", "RD", "WR", "WRGRF", "WRGRFodd")


@dataclass(frozen=True, eq=False)
class PimMachine:
    """Everything that does not depend on the graph."""

    config: PimConfig
    device: Device
    channel: Channel
    resources: tuple[Resource, ...]  # host, channels
    energy_pj: NDArray[np.float64]  # [C, components] per command of one channel
    open_pj: float  # per cycle with an open row, one channel
    nbytes: NDArray[np.int64]  # [C, levels] per command of one channel
    static_power_w: tuple[tuple[str, float], ...]

    def host_clocks(self, host_cycles: int) -> int:
        """Host cycles in channel clocks, rounded up: host results are handed over on a channel clock edge."""
        return -(-host_cycles * 10**12 // (self.config.host.clock_hz * self.device.tck_ps))


@lru_cache(maxsize=64)
def layout(config: PimConfig) -> Layout:
    """Geometry of the system."""
    device = find_device(config.device)
    return layout_of(config, device.row_bytes, device.burst_bytes, device.banks)


@lru_cache(maxsize=64)
def machine(config: PimConfig) -> PimMachine:
    """Compile the system.

    Raises:
        UserError: the device lacks a command of the dialect, or its clock is not usable.
    """
    check(config)
    device, channel = _channel(_programmed(config))
    on = layout(config)
    clock_hz = 10**12 // device.tck_ps
    static = (
        ("background", standby_w(device) * config.total_channels),
        ("host", config.host.power_w),
    )
    energy_pj, nbytes = _command_costs(channel, config.units, on)
    return PimMachine(
        config,
        device,
        channel,
        (Resource("host unit", clock_hz, "host"), Resource("PIM channels", clock_hz, "DRAM")),
        energy_pj,
        (device.energy.idd3n_ma - device.energy.idd2n_ma) * device.energy.vdd_v * device.tck_ps * 1e-3,
        nbytes,
        static,
    )


def _programmed(config: PimConfig) -> Aspect[PimConfig]:
    """What the commands of a channel and their distances depend on."""
    return Aspect(
        (
            config.device,
            config.dialect,
            config.refresh,
            config.refresh_banks,
            config.power_limit,
            config.mac_spacing_cycles,
            config.mode_switching,
            config.activations,
            config.elementwise,
            config.compat,
            config.reference_refreshes,
            config.exact_slow,
        ),
        config,
    )


@lru_cache(maxsize=64)
def _channel(used: Aspect[PimConfig]) -> tuple[Device, Channel]:
    """The device and its compiled channel: the same for any number of channels, host and units."""
    config = used.config
    spaced = config.power_limit is PowerLimit.SPACED and not config.compat
    spacing = config.mac_spacing_cycles if spaced else None
    device, tables = _compiled(config.device, config.mode_switching, spacing)
    if config.power_limit is PowerLimit.GROUPED and config.dialect is Dialect.HBM:
        raise UserError("power_limit 'grouped' needs the aim dialect", hint="use none or spaced")
    if 10**12 % device.tck_ps:
        raise UserError(
            f"the clock period of {device.tck_ps} ps is not a whole number of hertz",
            where=device.file,
            hint="use a period that divides 10**12, such as 500, 800, 1000 or 1250",
        )
    hbm = config.dialect is Dialect.HBM
    grouped = config.power_limit is PowerLimit.GROUPED and not config.compat
    never = config.refresh == "none" or (config.compat and not config.reference_refreshes)
    refresh = NO_REFRESH if never else refresh_of(device, config.refresh_banks)
    per_bank = refresh.mode is RefreshMode.PER_BANK
    late = device.postpone_limit * (device.banks if per_bank else 1) if config.refresh == "instruction" else 0
    commands = Commands(
        activate="ACTab" if hbm else ("ACT4" if grouped else "ACT16"),
        precharge="PREab" if hbm else "PREA",
        columns=("MACab" if hbm else "MAC16",),
        activates=1 if hbm or not grouped else 4,
        bank_activate="ACT",
        bank_precharge="PREpb",
        mode="TMOD" if config.mode_switching and not hbm else "",
        refresh=refresh.command,
        refresh_interval=refresh.interval,
        postpone=late * refresh.interval,
        refresh_per_bank=per_bank,
    )
    unused = _unused(config)
    parts = {
        name: PART_NAMES[i] for name, i in _PART_OF.items() if name in tables.names and name not in unused
    }
    drains = _drains(device)
    return device, build_channel(tables, commands, parts, PART_NAMES, drains, exact_slow=config.exact_slow)


@lru_cache(maxsize=256)
def _command_costs(
    channel: Channel, units: Units, on: Layout
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Energy and bytes of every command; shared, never written."""
    return _energy(channel, units), _bytes(channel, on)


def _unused(config: PimConfig) -> set[str]:
    """Commands that no program of this configuration issues: they would only slow the engine down."""
    tables, products = config.activations == "banks", config.elementwise == "banks"
    used = {
        "AF16": tables,
        "RDAF16": tables,
        "EWMUL16": products,
        "EWab": tables or products,
        "ENTER": config.mode_switching,
        "LEAVE": config.mode_switching,
        "REFab": config.refresh_banks == "all_bank",
        "REFpb": config.refresh_banks == "per_bank",
    }
    return {name for name, needed in used.items() if not needed}


@lru_cache(maxsize=64)
def _compiled(name: str, mode_switching: bool, spacing: int | None) -> tuple[Device, Tables]:
    """The device with mode switching off, or all-bank MACs spaced out, and its tables: what most
    configurations of one device share."""
    device = find_device(name)
    if not mode_switching:
        device = replace(device, commands=tuple(replace(c, mode=0) for c in device.commands))
    if spacing is not None:
        device = replace(device, timing={**device.timing, "nCCDAB": spacing})
    return device, compile_device(device)


def _drains(device: Device) -> dict[str, int]:
    """Cycles from a command to the end of its data."""
    t = device.timing
    read = t.get("nCL", 0) + t.get("nBL", 0)
    write = t.get("nCWL", 0) + t.get("nBL", 0)
    register = t.get("nCLREG", 0) + t.get("nBL", 0)
    known: dict[str, int] = {
        "RD": read,
        "WR": write,
        "RDMAC16": register,
        "WRGB": t.get("nBL", 0),
        "WRMAC16": t.get("nBL", 0),
        "RDAF16": register,
        "WRGRF": write,
        "WRGRFodd": write,
        "LEAVE": t.get("nLEAVE", 0),
        "MOVab": write,
    }
    names: list[Command] = [c for c in device.commands if c.name in known]
    return {c.name: known[c.name] for c in names}


def _energy(channel: Channel, on: Units) -> NDArray[np.float64]:
    device = channel.device
    out = np.zeros((len(channel.names), len(COMPONENTS)))
    units = on.per_channel
    io = device.burst_bytes * 8 * device.energy.io_pj_per_bit
    read, write = burst_pj(device, write=False), burst_pj(device, write=True)
    for c, name in enumerate(channel.names):
        if name in ("ACT", "ACT4", "ACT16", "ACTab"):
            out[c, 0] = activation_pj(device) * _ACTIVATES.get(name, units)
        elif name in ("MAC16", "MACab", "AF16", "EWab"):
            out[c, 1] = read * device.energy.array_fraction * units
            out[c, 2] = on.mac_power_w * int(channel.stride[c]) * device.tck_ps
        elif name == "EWMUL16":  # two bursts read and one written per bank group
            out[c, 1] = (2 * read + write) * device.energy.array_fraction * (units // GROUP_BANKS)
            out[c, 2] = on.mac_power_w * int(channel.stride[c]) * device.tck_ps
        elif name == "MOVab":
            out[c, 1] = write * device.energy.array_fraction * units
        elif name == "REFab":
            out[c, 4] = refresh_pj(device)
        elif name == "REFpb":  # the same rows of one bank
            out[c, 4] = refresh_pj(device) / device.banks
        if name == "RD":
            out[c, 1] = read
        if name == "WR":
            out[c, 1] = write
        if name in _IO:
            out[c, 3] = io
    return out


def _bytes(channel: Channel, on: Layout) -> NDArray[np.int64]:
    out = np.zeros((len(channel.names), len(LEVELS)), dtype=np.int64)
    for c, name in enumerate(channel.names):
        if name in _IO:
            out[c, 1] = on.burst_bytes
        if name in ("RD", "WR"):
            out[c, 2] = on.burst_bytes
        if name in ("MAC16", "MACab", "MOVab", "AF16", "EWab"):
            out[c, 2] = on.burst_bytes * on.units
        if name == "EWMUL16":
            out[c, 2] = 3 * on.burst_bytes * (on.units // GROUP_BANKS)
    return out
