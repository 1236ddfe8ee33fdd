"""The numbers of a device that the compiled loops need, in bytes, flops and instructions per microsecond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.gpu.config import GpuConfig, Number

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("float32", "tfloat32", "half", "float8", "int8")  # half: float16 and bfloat16 run at one rate
FLOAT32, TFLOAT32, HALF, FLOAT8, INT8 = range(5)
_US = 1e-6


@dataclass(frozen=True, eq=False)
class Device:
    """See the module text; `peaks` in the order of `FORMATS`, 0 where there is no unit."""

    architecture: str
    sm_count: int
    shared_bytes: float
    l2_bytes: float
    peaks: NDArray[np.float64]
    l2_bytes_per_us: float
    dram_bytes_per_us: float  # data sheet
    headroom_w: float  # board limit less idle power


def device_of(config: GpuConfig) -> Device:
    """The device of a configuration."""
    c = config.compute
    peaks = (c.fp32_flops_per_s, c.tf32_flops_per_s, c.fp16_flops_per_s, c.fp8_flops_per_s, c.int8_ops_per_s)
    return Device(
        architecture=config.architecture,
        sm_count=config.sm_count,
        shared_bytes=float(config.sm.shared_bytes),
        l2_bytes=float(config.l2.bytes),
        peaks=np.array(peaks) * config.peak_scale * _US,
        l2_bytes_per_us=config.l2.bandwidth_bytes_per_s * _US,
        dram_bytes_per_us=config.dram.bandwidth_bytes_per_s * _US,
        headroom_w=max(config.power.cap_w - config.power.idle_w, 1.0),
    )


def peak_of(format_index: int, config: GpuConfig) -> float:
    """Dense peak, operations per second.

    Raises:
        UserError: the device has no unit for the format.
    """
    rate = float(device_of(config).peaks[format_index]) / _US
    if rate <= 0:
        raise UserError(
            f"this GPU has no unit for {FORMATS[format_index]}",
            where="precision",
            hint=f"choose {Number.FLOAT16} or {Number.FLOAT32}",
        )
    return rate
