"""How wrong the model is known to be, per device and class: `errors.yaml`, written by benchmarks/fit_gpu.py.

The range is the 10th to 90th percentile of measured / predicted on rows left out of the fit. A device that
was never measured, or a configuration away from its preset's calibration, has none.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from tetrasim.hw_targets.gpu.config import GpuConfig
from tetrasim.sim.metric import Basis, ErrorRange

FILE = Path(__file__).with_name("errors.yaml")


def error_range(config: GpuConfig, metric: str) -> ErrorRange | None:
    """The range of `metric` ("prefill", "decode", "forward", "energy") on this device, None: unvalidated."""
    if not config.validated:
        return None
    row = _read().get(config.calibration, {}).get(metric)
    if row is None:
        return None
    return ErrorRange(float(row["low"]), float(row["high"]), Basis.CALIBRATED, str(row["source"]))


@cache
def _read() -> dict[str, dict[str, dict[str, float | str]]]:
    if not FILE.exists():
        return {}
    tree: dict[str, dict[str, dict[str, float | str]]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tree or {}
