"""Refresh as device data: which command, how often, and how many intervals it may wait.

All-bank: PREab and REFab for the whole channel (or rank) every tREFI, busy for tRFC. Per-bank: REFpb for one
bank after the other in a fixed order, every tREFIpb, busy for tRFCpb; the other banks go on. Commands, timing
values (`nREFI`, `nREFIpb`, and the gaps of their constraints) and the number of intervals a refresh may be
postponed (`postpone_limit`) are in the device file, each with its source (JEDEC standards: DDR4 JESD79-4,
LPDDR5 JESD209-5, HBM JESD235, GDDR6 JESD250).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.dram.device import Device


class RefreshMode(StrEnum):
    """What is refreshed at a time."""

    NONE = "none"
    ALL_BANK = "all_bank"
    PER_BANK = "per_bank"


@dataclass(frozen=True, slots=True)
class Refresh:
    """`interval` cycles between refreshes falling due (0: never); one may wait `postpone` intervals."""

    mode: RefreshMode = RefreshMode.NONE
    interval: int = 0
    postpone: int = 0

    @property
    def command(self) -> str:
        """The command of this mode, empty for none."""
        names = {RefreshMode.ALL_BANK: "REFab", RefreshMode.PER_BANK: "REFpb"}
        return names.get(self.mode, "")


NO_REFRESH = Refresh()


def refresh_of(device: Device, mode: RefreshMode | str, postpone: int = 0) -> Refresh:
    """The refresh of a device in `mode`.

    Raises:
        UserError: unknown mode, a device without the command or its interval, or more intervals of
            postponement than the device allows.
    """
    known = [m.value for m in RefreshMode]
    if mode not in known:
        raise UserError(f"unknown refresh mode '{mode}'", where=device.file, hint=nearest(str(mode), known))
    mode = RefreshMode(mode)
    if mode is RefreshMode.NONE:
        return NO_REFRESH
    command, name = ("REFab", "nREFI") if mode is RefreshMode.ALL_BANK else ("REFpb", "nREFIpb")
    if command not in {c.name for c in device.commands}:
        raise UserError(
            f"{device.name} has no {command}, so it cannot refresh '{mode.value}'",
            where=device.file,
            hint="use refresh none or the other mode, or add the command and its constraints to the device",
        )
    interval = device.timing.get(name, 0)
    if interval < 1:
        raise UserError(
            f"'{name}' of {device.name} is missing", where=device.file, hint="the cycles between refreshes"
        )
    if not 0 <= postpone <= device.postpone_limit:
        raise UserError(
            f"a refresh of {device.name} cannot be postponed by {postpone} intervals",
            where=device.file,
            hint=f"0 to {device.postpone_limit} (postpone_limit of the device)",
        )
    return Refresh(mode, interval, postpone)


def refresh_modes(device: Device) -> list[str]:
    """The modes that a device can refresh in."""
    found = []
    for mode in (RefreshMode.ALL_BANK, RefreshMode.PER_BANK):
        try:
            found.append(refresh_of(device, mode).mode.value)
        except UserError:
            continue
    return found
