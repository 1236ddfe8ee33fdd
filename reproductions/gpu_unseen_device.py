"""A GPU that was never fitted: its data sheet with other devices' calibration, against its measurements.

    python reproductions/gpu_unseen_device.py

Nothing of the target is used but its preset (SMs, clocks, peaks, L2, DRAM) and what is published about its
architecture. 16-bit products take the parameters that were fitted jointly to the devices named, the target
not among them (tetrasim/hw_targets/gpu/transfer.py; `tetrasim calibrate gpu` fits them). Attention comes
from one device, its latencies in cycles. The rows are those of `tetrasim validate gpu`; those of A40 are in
no fit at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tetrasim.hw_targets.gpu.calibration import Calibration, calibration, calibration_of, moved
from tetrasim.hw_targets.gpu.measurements import Measured, predict, preset_config
from tetrasim.hw_targets.gpu.transfer import ALL
from tetrasim.hw_targets.gpu.validate import committed

A100, H100, H200, A40 = "a100-sxm4-80gb", "h100-sxm", "h200-sxm", "a40"
# target, devices that were fitted
PRODUCTS = (
    (H200, H100), (H100, H200), (A100, H100), (A100, H200), (H100, A100), (H200, A100),
    (A40, A100), (A40, H100),
    (A100, f"{H100}+{H200}"), (H100, f"{A100}+{H200}"), (H200, f"{A100}+{H100}"), (A40, ALL),
)  # fmt: skip
ATTENTION = ((H200, H100), (H100, H200), (A100, H100), (H100, A100), (H200, A100))
PRODUCT_CLASSES = ("gemm half", "linear half")
ATTENTION_CLASSES = ("decode", "prefill")


@dataclass(frozen=True)
class Transfer:
    """Mean and median absolute error and bias of one class on a device with others' calibration; fractions.
    `own_error`: with its own."""

    target: str
    fitted: str
    op_class: str
    rows: int
    error: float
    median: float
    bias: float
    own_error: float


def transfers() -> Iterator[Transfer]:
    """Every target, set of fitted devices and class."""
    tables = list(committed())
    for pairs, classes in ((PRODUCTS, PRODUCT_CLASSES), (ATTENTION, ATTENTION_CLASSES)):
        for target, fitted in pairs:
            for measured in tables:
                if measured.preset == target and measured.label in classes:
                    yield _transfer(measured, fitted)


def without_own(target: str, fitted: str) -> Calibration:
    """What is known about `target` when only `fitted` were measured."""
    config = preset_config(target)
    first = H100 if fitted == ALL else fitted.split("+", maxsplit=1)[0]
    borrowed = calibration(first)
    at = moved(replace(borrowed, shared=("half",)), config, fitted)
    family = calibration_of(config.model_copy(update={"calibration": config.architecture}))
    return replace(at, power=family.power)


def _transfer(measured: Measured, fitted: str) -> Transfer:
    there = predict(measured, without_own(measured.preset, fitted)).latency_us / measured.latency_us - 1
    own = predict(measured).latency_us / measured.latency_us - 1
    return Transfer(
        measured.preset,
        fitted,
        measured.label,
        len(there),
        float(np.abs(there).mean()),
        float(np.median(np.abs(there))),
        float(there.mean()),
        float(np.abs(own).mean()),
    )


def main() -> None:
    print(f"{'target':16s} {'fitted on':25s} {'class':11s} rows  error median   bias  (as it ships)")
    for t in transfers():
        print(
            f"{t.target:16s} {t.fitted:25s} {t.op_class:11s} {t.rows:4d} {t.error:6.1%} {t.median:6.1%}"
            f" {t.bias:+6.1%}  ({t.own_error:.1%})"
        )


if __name__ == "__main__":
    main()
