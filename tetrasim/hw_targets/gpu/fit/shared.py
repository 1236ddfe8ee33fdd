"""The 16-bit GEMM parameters that several devices share, fitted jointly (hw_targets/gpu/transfer.py).

One set is fitted to all devices with a table of 16-bit products; it serves devices that have none. The other
sets leave devices out: they say how well it will do there (`python reproductions/gpu_unseen_device.py`).
Each architecture weighs the same. Bounds are physical: no rate above the published one (L2) or the data
sheet's, loads of one to six latencies, small tiles slowed by latency and not by a fraction of the peak; the
pipeline is as deep as that of the deepest library kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from tetrasim.hw_targets.gpu.calibration import calibration
from tetrasim.hw_targets.gpu.device import HALF
from tetrasim.hw_targets.gpu.fit.ranges import left_out
from tetrasim.hw_targets.gpu.fit.search import Bounds, optimise
from tetrasim.hw_targets.gpu.fit.tables import TABLES, load_table
from tetrasim.hw_targets.gpu.measurements import Measured, predict, preset_config
from tetrasim.hw_targets.gpu.transfer import ALL, SharedGemm, gemm_fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

START = SharedGemm(4800, 500, 3500, 0.6, 4500, 2.0, 0.87, 0.03, 4.0, 0.7, 8, 0.95, 0.82, 0.95, 4.5, 0.9, 0.02)
BOUNDS: Bounds = {
    "start_cycles": (1500, 7000), "wave_cycles": (1, 5000), "epilogue_cycles": (5, 6000),
    "epilogue_exposed": (1e-3, 1), "split_cycles": (300, 8000), "reduce_efficiency": (0.05, 10),
    "compute_efficiency": (0.5, 1), "tile_exponent": (0.005, 0.1), "l2_latencies": (1, 6),
    "dram_latencies": (0.5, 2), "l2_efficiency": (0.3, 1), "read_efficiency": (0.6, 0.95),
    "write_efficiency": (0.6, 1), "overlap": (1.5, 10), "l2_share": (0.05, 2), "l2_onset": (0.01, 0.9),
}  # fmt: skip
ROWS = 1500  # of each device
A100, H100, H200 = "a100-sxm4-80gb", "h100-sxm", "h200-sxm"
SETS = ((A100,), (H100,), (H200,), (H100, H200), (A100, H100), (A100, H200), (A100, H100, H200))


def fit_shared(tables: Mapping[str, Measured], budget: int, seed: int = 0) -> tuple[SharedGemm, float]:
    """Parameters with the least mean error over architectures, and that error."""
    configs = {p: preset_config(p) for p in tables}
    family = [configs[p].architecture for p in tables]

    def loss(params: Mapping[str, float]) -> float:
        shared = SharedGemm(**params)
        found = [error(shared, p, m) for p, m in tables.items()]
        means = [np.mean([e for e, f in zip(found, family, strict=True) if f == one]) for one in set(family)]
        return float(np.mean(means))

    best = optimise(loss, asdict(START), BOUNDS, budget, seed)
    best = {**asdict(START), **best}
    return SharedGemm(**best), loss(best)


def ratios(shared: SharedGemm, preset: str, measured: Measured) -> NDArray[np.float64]:
    """Predicted over measured, with the shared parameters in place of the preset's own."""
    fit = calibration(preset)
    kernels = list(fit.gemm)
    kernels[HALF] = gemm_fit(shared, preset_config(preset))
    found = predict(measured, replace(fit, gemm=tuple(kernels))).latency_us
    return np.asarray(found / measured.latency_us)


def error(shared: SharedGemm, preset: str, measured: Measured) -> float:
    return float(np.abs(ratios(shared, preset, measured) - 1).mean())


def fit_sets(folder: Path, budget: int, say: Callable[[str], None]) -> dict[str, SharedGemm]:
    """Every set of `SETS`, by name; says the error of each on all devices' rows that no fit has seen."""
    tables = {t.preset: load_table(t, folder) for t in TABLES if t.label == "gemm half"}
    parts = {p: (_sample(m, ~left_out(m)), m.take(np.flatnonzero(left_out(m)))) for p, m in tables.items()}
    found: dict[str, SharedGemm] = {}
    for devices in SETS:
        shared, loss = fit_shared({p: parts[p][0] for p in devices}, budget)
        left = "  ".join(f"{p} {error(shared, p, test):.1%}" for p, (_, test) in parts.items())
        name = set_name(devices)
        say(f"shared GEMM fitted on {name:30s} train {loss:.1%}  left-out sites: {left}")
        found[name] = shared
    return found


def set_name(devices: Sequence[str]) -> str:
    """The name of a set in shared_gemm.yaml."""
    return ALL if len(devices) == len(SETS[-1]) else "+".join(devices)


def _sample(measured: Measured, keep: NDArray[np.bool_]) -> Measured:
    return measured.take(np.random.default_rng(1).permutation(np.flatnonzero(keep))[:ROWS])


def text(found: Mapping[str, SharedGemm]) -> str:
    """The YAML of the sets."""
    tree = {name: {n: float(f"{v:.5g}") for n, v in asdict(s).items()} for name, s in found.items()}
    head = "# Written by `tetrasim calibrate gpu`: do not edit. Meaning: SharedGemm in transfer.py.\n"
    return head + yaml.safe_dump(tree, sort_keys=False)
