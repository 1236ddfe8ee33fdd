"""A GPU that was never fitted: its data sheet with another device's calibration, against its measurements.

    python benchmarks/gpu_unseen_device.py

Nothing of the target is used but its preset (SMs, clocks, peaks, L2, DRAM). Efficiencies come from the other
device; so do latencies, in cycles: they scale with the clock. The rows are those of `tetrasim validate gpu`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tetrasim.hw_targets.gpu.calibration import Calibration, calibration
from tetrasim.hw_targets.gpu.measurements import predict, preset_config
from tetrasim.hw_targets.gpu.validate import committed

# target <- device that was fitted
PAIRS = (
    ("h200-sxm", "h100-sxm"),
    ("h100-sxm", "h200-sxm"),
    ("a100-sxm4-80gb", "h100-sxm"),
    ("h100-sxm", "a100-sxm4-80gb"),
    ("h200-sxm", "a100-sxm4-80gb"),
)
CLASSES = ("gemm half", "decode", "prefill")


@dataclass(frozen=True)
class Transfer:
    """Mean and median absolute error of one class on a device, with another's calibration; fractions."""

    target: str
    fitted: str
    op_class: str
    rows: int
    error: float
    median: float
    bias: float
    own_error: float


GEMM_CYCLES = ("start_us", "wave_us", "split_us", "epilogue_us", "latency_us", "dram_latency_us")
ATTENTION_CYCLES = ("block_us", "row_us", "tile_us", "softmax_us", "combine_us", "combine_split_us")


def moved(fitted: str, target: str) -> Calibration:
    """The calibration of `fitted` at the clock of `target`."""
    slower = preset_config(fitted).clock_hz / preset_config(target).clock_hz
    fit = calibration(fitted)
    kernels = tuple(replace(f, **{n: getattr(f, n) * slower for n in GEMM_CYCLES}) for f in fit.gemm)
    attention = tuple(
        replace(f, **{n: getattr(f, n) * slower for n in ATTENTION_CYCLES}) for f in fit.attention
    )
    return replace(fit, gemm=kernels, attention=attention)


def transfers() -> Iterator[Transfer]:
    """Every pair and class."""
    tables = [m for m in committed() if m.label in CLASSES]
    for target, fitted in PAIRS:
        for measured in tables:
            if measured.preset != target:
                continue
            there = predict(measured, moved(fitted, target)).latency_us / measured.latency_us - 1
            own = predict(measured).latency_us / measured.latency_us - 1
            yield Transfer(
                target,
                fitted,
                measured.label,
                len(there),
                float(np.abs(there).mean()),
                float(np.median(np.abs(there))),
                float(there.mean()),
                float(np.abs(own).mean()),
            )


def main() -> None:
    print(f"{'target':16s} {'fitted on':16s} {'class':10s} rows  error median   bias  (own fit)")
    for t in transfers():
        print(
            f"{t.target:16s} {t.fitted:16s} {t.op_class:10s} {t.rows:4d} {t.error:6.1%} {t.median:6.1%}"
            f" {t.bias:+6.1%}  ({t.own_error:.1%})"
        )


if __name__ == "__main__":
    main()
