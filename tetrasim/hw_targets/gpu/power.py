"""Energy and the power limit.

Energy = idle power x time + energy per executed flop (padding counts) + energy per DRAM byte. When that needs
more power than the board may draw, the clock drops; voltage drops with it, so the time stretches by less
than the excess (`stretch_exponent` 1: all of it). The limiter averages over time, so that short bursts run at
full clock: a kernel of length t is stretched in the proportion t / (t + `response_us`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PowerFit:
    """Per device: dynamic energy of a float32 flop on CUDA cores, of a 16-bit tensor-core flop and of a DRAM
    byte with its path to the SM; the limiter's response time and stretch exponent (see the module text)."""

    fp32_pj_per_flop: float
    tensor_pj_per_flop: float
    dram_pj_per_byte: float
    response_us: float
    stretch_exponent: float


def stretched_us(
    time_us: NDArray[np.float64],
    dynamic_pj: NDArray[np.float64],
    headroom_w: float,
    fit: PowerFit,
    sustained: bool,
) -> NDArray[np.float64]:
    """Kernel times under the power limit.

    Args:
        time_us: times at full clock.
        dynamic_pj: dynamic energy of each kernel.
        headroom_w: board limit less idle power.
        fit: the device.
        sustained: the load goes on around the kernel (a whole model), so the limiter has responded.
    """
    busy = np.maximum(time_us, 1e-9)
    excess = np.maximum(dynamic_pj * 1e-6 / headroom_w / busy, 1.0)
    added = busy * (excess**fit.stretch_exponent - 1.0)
    share = 1.0 if sustained else busy / (busy + fit.response_us)
    return np.asarray(time_us + added * share)
