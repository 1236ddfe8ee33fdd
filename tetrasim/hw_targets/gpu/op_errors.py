"""The error range of one op: measured over predicted on the shipped rows of its class, which no fit has seen.

A class is an op with its number format on one device, and its size. Where the device is not the one that
was measured, the kernel starts otherwise than it was timed, or fewer than `FEWEST_ROWS` rows are of the
class, there is no range.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tetrasim.hw_targets.gpu.config import GpuConfig, Launch, Number
from tetrasim.hw_targets.gpu.errors import is_measured
from tetrasim.hw_targets.gpu.measurements import predict
from tetrasim.hw_targets.gpu.validate import committed, sizes_of
from tetrasim.sim.metric import Basis, ErrorRange
from tetrasim.sim.ops.work import Work, WorkKind

FEWEST_ROWS = 20
_PRODUCTS = {
    Number.FLOAT32: "gemm float32",
    Number.FLOAT16: "gemm half",
    Number.BFLOAT16: "gemm half",
    Number.FLOAT8: "gemm float8",
}


def op_range(work: Work, config: GpuConfig) -> ErrorRange | None:
    """The 10th to 90th percentile of measured / predicted for ops like `work`; None: no evidence."""
    if not is_measured(config):
        return None
    found = _class_of(work, config)
    return None if found is None else _ranges(config.calibration, config.launch).get(found)


def _class_of(work: Work, config: GpuConfig) -> tuple[str, str] | None:
    """Label and size class of the measured rows that are like this op."""
    if work.kind is WorkKind.GEMM and work.gemm is not None:
        label = _PRODUCTS.get(config.precision)
        few, large = work.gemm.m <= 16, 2 * work.gemm.macs > 1e9
        return None if label is None else (label, "m <= 16" if few else "large" if large else "small")
    if work.kind is WorkKind.ATTENTION and work.attention is not None:
        if config.precision not in (Number.FLOAT16, Number.BFLOAT16):
            return None
        shape = work.attention
        label = "decode" if shape.q_len == 1 else "prefill" if shape.macs < _all_pairs(work) else "encoder"
        return label, "kv <= 1024" if shape.kv_len <= 1024 else "kv > 1024"
    if work.vector is not None and config.precision is Number.FLOAT32:
        return "vector", "row reductions" if work.vector.reduces else "element-wise"
    return None


def _all_pairs(work: Work) -> int:
    shape = work.attention
    assert shape is not None
    pairs = shape.batch * shape.heads * shape.q_len * shape.kv_len
    return pairs * (shape.head_dim + shape.v_head_dim)


@lru_cache(maxsize=64)
def _ranges(preset: str, launch: Launch) -> dict[tuple[str, str], ErrorRange]:
    out = {}
    for measured in committed():
        if measured.preset != preset or measured.launch is not launch:
            continue
        ratio = measured.latency_us / predict(measured).latency_us
        sizes = sizes_of(measured)
        for size in sorted(set(sizes.tolist())):
            mine = ratio[sizes == size]
            if len(mine) >= FEWEST_ROWS:
                low, high = np.quantile(mine, [0.1, 0.9]).tolist()
                source = f"{len(mine)} kernels left out of the fit ({measured.label}, {size}), gpu/{preset}"
                out[measured.label, size] = ErrorRange(low, high, Basis.CALIBRATED, source)
    return out
