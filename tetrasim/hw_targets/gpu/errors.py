"""How wrong the model is known to be, per device, number format and phase: `errors.yaml`, written by
`tetrasim calibrate gpu`.

The range is the 10th to 90th percentile of measured / predicted on rows left out of the fit. A device that
was never measured has none, nor has one whose numbers differ from the preset that was measured, nor a format
without measurements on it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from tetrasim.hw_targets.gpu.config import GpuConfig, Number
from tetrasim.hw_targets.gpu.measurements import preset_config
from tetrasim.sim.metric import Basis, ErrorRange

FILE = Path(__file__).with_name("errors.yaml")
_CLASS = {
    Number.FLOAT32: "float32",
    Number.FLOAT16: "half",
    Number.BFLOAT16: "half",
    Number.FLOAT8: "float8",
}
_DEVICE = (
    "architecture",
    "sm_count",
    "clock_hz",
    "running_clock_hz",
    "compute",
    "sm",
    "l2",
    "dram",
    "power",
    "calibration",
)


def is_measured(config: GpuConfig) -> bool:
    """Whether this is a device that was measured, with none of its numbers changed."""
    if not config.validated:
        return False
    measured = preset_config(config.calibration)
    return all(getattr(config, part) == getattr(measured, part) for part in _DEVICE)


def error_range(config: GpuConfig, metric: str) -> ErrorRange | None:
    """The range of `metric` ("prefill", "decode", "forward", "energy") on this device, None: unvalidated."""
    if not is_measured(config) or config.precision not in _CLASS:
        return None
    row = shipped().get(config.calibration, {}).get(_CLASS[config.precision], {}).get(metric)
    if row is None:
        return None
    source = f"{row['source']}, gpu/{config.calibration}"
    return ErrorRange(float(row["low"]), float(row["high"]), Basis.CALIBRATED, source)


@cache
def shipped() -> dict[str, dict[str, dict[str, dict[str, float | str]]]]:
    """All ranges: preset -> number format -> metric -> low, high and source."""
    tree: dict[str, dict[str, dict[str, dict[str, float | str]]]]
    tree = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tree
