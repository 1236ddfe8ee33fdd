"""Error ranges of the GPU model per device, number format and phase, from rows that no fit has seen."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from bert_libraries import fastertransformer
from fit_gpu_tables import TABLES, load_table

from tetrasim.hw_targets.gpu.measurements import Measured, predict

Tree = dict[str, dict[str, dict[str, dict[str, float | str]]]]  # preset -> number -> metric -> range
LEFT_OUT = 0.4  # share of the sites
LONG_US = 30.0  # board power of shorter kernels is a window average
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


def left_out(measured: Measured, seed: int = 0) -> np.ndarray:
    """Which rows belong to the sites that are kept out of the fit."""
    sites = np.unique(measured.site)
    out = np.random.default_rng(seed).permutation(sites)[: round(LEFT_OUT * len(sites))]
    return np.isin(measured.site, out)


def ranges(folder: Path) -> Tree:
    """10th and 90th percentile of measured / predicted with the calibration that ships."""
    ratios: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    tree: Tree = defaultdict(lambda: defaultdict(dict))
    for table in TABLES:
        measured = load_table(table, folder)
        test = measured.take(np.flatnonzero(left_out(measured)))
        predicted = predict(test)
        ratios[table.preset][table.label] = test.latency_us / predicted.latency_us
        if test.power_w is not None:
            long = test.latency_us > LONG_US
            power = (test.power_w / predicted.power_w)[long]
            tree[table.preset][table.part]["energy"] = _range(power, "board power of kernels above 30 us")
    for preset, found in ratios.items():
        for (number, phase), classes in _CLASSES.items():
            if classes[0] in found:
                used = [c for c in classes if c in found]
                text = f"kernels left out of the fit ({', '.join(used)})"
                tree[preset][number][phase] = _range(np.concatenate([found[c] for c in used]), text)
    _add_models(tree)
    return {p: {n: dict(m) for n, m in numbers.items()} for p, numbers in tree.items()}


def _add_models(tree: Tree) -> None:
    """float16 on T4 and V100: no kernel table, but FasterTransformer's BERT."""
    rows: dict[str, list[float]] = defaultdict(list)
    for row in fastertransformer():
        if row.source in ("PyTorch FT float16", "TensorFlow FT float16"):
            rows[row.preset].append(row.measured_ms / row.predicted_ms)
    for preset in ("t4", "v100-pcie-32gb"):
        found = _range(np.array(rows[preset]), "BERT runs of FasterTransformer, float16")
        tree[preset]["half"] = {"prefill": found, "forward": found}


def _range(ratio: np.ndarray, what: str) -> dict[str, float | str]:
    low, high = np.percentile(ratio, [10, 90])
    source = f"{len(ratio)} {what}; benchmarks/fit_gpu.py"
    return {"low": round(float(low), 4), "high": round(float(high), 4), "source": source}
