"""Geometry of a PIM system, and how a count falls into equal pieces and a rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tetrasim.hw_targets.pim.config import Dialect, PimConfig


@dataclass(frozen=True)
class Layout:
    """Derived from the configuration and its DRAM device. `launches`: every kernel enters and leaves the
    all-bank mode (HBM-PIM); `paired`: a unit serves an even and an odd bank."""

    dialect: Dialect
    channels: int
    units: int
    lanes: int
    inputs: int
    outputs_per_unit: int
    row_accesses: int  # column accesses per row
    row_bytes: int
    burst_bytes: int
    element_bytes: int
    bias_write: bool
    result_wait: int
    launches: bool = False
    paired: bool = False

    @property
    def group(self) -> int:
        """Outputs that one channel computes at once."""
        return self.units * self.outputs_per_unit


def layout_of(config: PimConfig, row_bytes: int, burst_bytes: int, banks: int) -> Layout:
    """The geometry of `config` on a device with these row and burst sizes and so many banks per channel."""
    units = config.units
    return Layout(
        config.dialect, config.total_channels, units.per_channel, units.lanes, units.inputs,
        units.outputs_per_unit, row_bytes // burst_bytes, row_bytes, burst_bytes, config.element_bytes,
        units.bias_write, units.result_wait_cycles, config.dialect is Dialect.HBM and config.mode_switching,
        banks > units.per_channel,
    )  # fmt: skip


def pieces(total: int, size: int) -> Iterable[tuple[int, int]]:
    """(count, size) of the equal pieces of `total` and of the rest."""
    whole, rest = divmod(total, size)
    return [(c, s) for c, s in ((whole, size), (1 if rest else 0, rest)) if c]
