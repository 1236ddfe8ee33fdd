"""Energy and the power limit.

Board power while a kernel runs = idle + `base_w` + what the kernel does: `active_w` for SMs that run, energy
per executed flop (padding counts) and per DRAM byte. Short kernels draw less than their work would: the
dynamic part grows as t / (t + `ramp_us`), as board power measured under back-to-back replay shows.
When a kernel would draw more than the board limit, the clock drops; voltage drops with it, so the time
stretches by less than the excess (`stretch_exponent` 1: by all of it). The limiter averages over time: a
kernel of length t that is timed alone is stretched in the proportion t / (t + `response_us`), and in a model
the average over all its kernels has to stay below the limit; `model_share` of that stretch is seen in models,
whose gaps let the board cool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PowerFit:
    """Per device: watts on top of idle while work is queued (`base_w`) and SMs run (`active_w`); dynamic
    energy of a float32 flop on CUDA cores, of a 16-bit tensor-core flop and of a DRAM byte with its path to
    the SM; ramp, limiter response and stretch (see the module text)."""

    base_w: float
    active_w: float
    fp32_pj_per_flop: float
    tensor_pj_per_flop: float
    dram_pj_per_byte: float
    ramp_us: float
    response_us: float
    stretch_exponent: float
    model_share: float = 1.0


def stretched_us(
    time_us: NDArray[np.float64],
    dynamic_pj: NDArray[np.float64],
    headroom_w: float,
    fit: PowerFit,
    counts: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Kernel times under the power limit.

    Args:
        time_us: times at full clock.
        dynamic_pj: energy of flops and bytes of each kernel.
        headroom_w: board limit less idle power.
        fit: the device.
        counts: how often each kernel runs in the model, over which the limiter averages: hungry kernels take
            what frugal ones leave. None: every kernel is replayed alone, and the limiter responds to it.
    """
    if not len(time_us):
        return time_us
    busy = np.maximum(time_us, 1e-9)
    headroom = max(headroom_w - fit.base_w - fit.active_w, 0.1 * headroom_w)

    def stretch(time: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.float64]:
        excess = np.maximum(energy * 1e-6 / headroom / time, 1.0)
        return np.asarray(time * (excess**fit.stretch_exponent - 1.0))

    added = stretch(busy, dynamic_pj)
    if counts is None:
        return np.asarray(time_us + added * busy / (busy + fit.response_us))
    whole = stretch(np.array([counts @ busy]), np.array([counts @ dynamic_pj]))[0]
    share = fit.model_share * min(whole / max(float(counts @ added), 1e-9), 1.0)
    return np.asarray(time_us + added * share)


def drawn_pj(
    time_us: NDArray[np.float64], dynamic_pj: NDArray[np.float64], fit: PowerFit
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energy above idle: (of flops and bytes as drawn, of running SMs and queued work)."""
    share = time_us / (time_us + fit.ramp_us)
    return dynamic_pj * share, (fit.base_w + fit.active_w * share) * time_us * 1e6
