"""Error ranges of the GPU model per device, number format and phase, from rows that no fit has seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.fit.tables import TABLES, load_table
from tetrasim.hw_targets.gpu.measurements import Measured, Predicted

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tree = dict[str, dict[str, dict[str, dict[str, float | str]]]]  # preset -> number -> metric -> range
LEFT_OUT = 0.4  # share of the sites
LONG_US = 30.0  # board power of shorter kernels is a window average
MODEL_PRESETS = ("t4", "v100-pcie-32gb")
_PHASES = ("prefill", "forward", "decode")
# The op classes whose left-out rows stand for a phase of a model in a number format.
_CLASSES = {
    ("half", "prefill"): ("gemm half", "prefill"),
    ("half", "forward"): ("gemm half", "encoder", "prefill"),
    ("half", "decode"): ("gemm half", "decode"),
    ("float8", "prefill"): ("gemm float8", "prefill"),
    ("float8", "forward"): ("gemm float8", "encoder"),
    ("float8", "decode"): ("gemm float8", "decode"),
    **{("float32", phase): ("gemm float32", "vector") for phase in _PHASES},
}


def left_out(measured: Measured, seed: int = 0) -> NDArray[np.bool_]:
    """Which rows belong to the sites that are kept out of the fit."""
    sites = np.unique(measured.site)
    out = np.random.default_rng(seed).permutation(sites)[: round(LEFT_OUT * len(sites))]
    return np.asarray(np.isin(measured.site, out))


def ranges(folder: Path, predicted: Callable[[Measured], Predicted], models: Tree) -> Tree:
    """10th and 90th percentile of measured / predicted.

    Args:
        folder: the measured tables.
        predicted: what the calibration says about rows.
        models: ranges from whole models of devices and formats without a table of kernels (T4 and V100 in
            float16, from FasterTransformer's BERT: `python reproductions/bert_libraries.py --ranges`).
    """
    ratios: dict[str, dict[str, NDArray[np.float64]]] = defaultdict(dict)
    tree: Tree = defaultdict(lambda: defaultdict(dict))
    for table in TABLES:
        measured = load_table(table, folder)
        test = measured.take(np.flatnonzero(left_out(measured)))
        found = predicted(test)
        ratios[table.preset][table.label] = test.latency_us / found.latency_us
        if test.power_w is not None:
            long = test.latency_us > LONG_US
            power = (test.power_w / found.power_w)[long]
            tree[table.preset][table.part]["energy"] = range_of(power, "board power of kernels above 30 us")
    for preset, by_label in ratios.items():
        for (number, phase), classes in _CLASSES.items():
            if classes[0] in by_label:
                used = [c for c in classes if c in by_label]
                text = f"kernels left out of the fit ({', '.join(used)})"
                tree[preset][number][phase] = range_of(np.concatenate([by_label[c] for c in used]), text)
    for preset, numbers in models.items():
        for number, metrics in numbers.items():
            tree[preset][number].update(metrics)
    return {p: {n: dict(m) for n, m in numbers.items()} for p, numbers in tree.items()}


def from_models(tree: Tree) -> Tree:
    """The entries of `errors.yaml` that rest on whole models."""
    return {
        preset: {
            number: metrics
            for number, metrics in numbers.items()
            if any("kernels" not in str(row["source"]) for row in metrics.values())
        }
        for preset, numbers in tree.items()
        if preset in MODEL_PRESETS
    }


def range_of(
    ratio: NDArray[np.float64], what: str, by: str = "tetrasim calibrate gpu"
) -> dict[str, float | str]:
    """10th and 90th percentile of measured / predicted, and how many rows of what they rest on."""
    low, high = np.percentile(ratio, [10, 90])
    source = f"{len(ratio)} {what}; {by}"
    return {"low": round(float(low), 4), "high": round(float(high), 4), "source": source}
