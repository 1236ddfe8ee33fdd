"""How wrong the price of one kernel is known to be: on the committed rows of its class that no fit has seen.

A class is a device, a kind of kernel and a number format, launched as the rows were. There is no range for a
class without rows, and none for a device whose numbers were changed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tetrasim.hw_targets.gpu.config import GpuConfig, Launch
from tetrasim.hw_targets.gpu.costs import gemm_format
from tetrasim.hw_targets.gpu.device import FORMATS
from tetrasim.hw_targets.gpu.errors import is_measured
from tetrasim.hw_targets.gpu.measurements import predict
from tetrasim.hw_targets.gpu.validate import committed
from tetrasim.sim.metric import Basis, ErrorRange
from tetrasim.sim.ops.work import Work, WorkKind

FEWEST_ROWS = 30  # of which percentiles are taken


def op_range(work: Work, config: GpuConfig) -> ErrorRange | None:
    """10th to 90th percentile of measured over predicted on the rows of this class, None: no evidence."""
    if not is_measured(config):
        return None
    label = _label(work, config)
    return _range(config.calibration, label, Launch(config.launch)) if label else None


def _label(work: Work, config: GpuConfig) -> str:
    """The class of a kernel as the committed rows name it; empty where there is none of the kind."""
    if work.kind is WorkKind.GEMM:
        return f"gemm {FORMATS[gemm_format(work, config)]}"
    if work.attention is not None:
        if FORMATS[gemm_format(work, config)] != "half":
            return ""
        a = work.attention
        return "decode" if a.q_len == 1 else ("prefill" if a.causal else "encoder")
    float32 = all(o.bits == 32 for o in (*work.reads, *work.writes))
    return "vector" if work.kind is WorkKind.VECTOR and float32 else ""


@lru_cache(maxsize=64)
def _range(preset: str, label: str, launch: Launch) -> ErrorRange | None:
    ratios = [
        rows.latency_us / predict(rows).latency_us
        for rows in committed()
        if (rows.preset, rows.label, rows.launch) == (preset, label, launch)
    ]
    found = np.concatenate([np.zeros(0), *ratios])
    if len(found) < FEWEST_ROWS:
        return None
    low, high = np.percentile(found, [10, 90])
    source = f"{len(found)} measured kernels left out of the fit ({label}), gpu/{preset}"
    return ErrorRange(round(float(low), 4), round(float(high), 4), Basis.CALIBRATED, source)
