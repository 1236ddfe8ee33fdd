"""Prices of single ops against bounds computed by hand, on one preset of every kind of target.

Each row states its computation. Rates: A100 2.04 TB/s and 312 TFLOP/s (NVIDIA A100 data sheet), Xeon 6154
128 GB/s and 18 cores, U280 460 GB/s, PIM-GPT 257 GB/s to its ASIC of 256 lanes at 1 GHz, 2.76 TB/s inside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import ints, model, node, saved

from tetrasim.flow.model import find_model, load_model
from tetrasim.flow.request import workload_for
from tetrasim.flow.session import simulate
from tetrasim.flow.setup import set_up

INT = TensorProto.INT64
PIM, GPU, CPU, FPGA = "pim/pim-gpt", "gpu/a100-sxm4-80gb", "cpu/xeon-6154", "fpga/u280"


def latency_us(proto: onnx.ModelProto, folder: Path, target: str) -> float:
    """One run of a file on a target."""
    files = find_model(str(saved(proto, folder)))
    workload = workload_for(files, None, 0, 1, None)
    result = simulate(load_model(files, workload), set_up(target), workload, numerics=False)
    return float(result.latency.value) / 1e3


def weights(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def top_k(rows: int, cols: int, k: int, kind: int) -> onnx.ModelProto:
    sort = node("TopK", ["x", "k"], ["v", "i"], axis=-1)
    return model([sort], {"x": [rows, cols]}, ["v"], {"k": ints(k)}, types={"x": kind, "v": kind})


def depthwise() -> onnx.ModelProto:
    conv = node("Conv", ["x", "w"], ["y"], group=384, pads=[1] * 4)
    return model([conv], {"x": [1, 384, 14, 14]}, ["y"], {"w": weights(384, 1, 3, 3)})


def experts(chosen: int) -> onnx.ModelProto:
    nodes = [node("Gather", ["w", "i"], ["e"], axis=0), node("MatMul", ["x", "e"], ["y"])]
    inputs = {"x": [1, 1, 1024], "i": [chosen]}
    return model(nodes, inputs, ["y"], {"w": weights(8, 1024, 4096)}, types={"i": INT})


def scatter_row() -> onnx.ModelProto:
    nodes = [node("ScatterND", ["x", "i", "u"], ["y"])]
    inputs = {"x": [16384, 1024], "i": [1, 1], "u": [1, 1024]}
    return model(nodes, inputs, ["y"], types={"i": INT})


def repeated_index() -> onnx.ModelProto:
    nodes = [
        node("Unsqueeze", ["i", "two"], ["iu"]),
        node("Expand", ["iu", "shape"], ["ie"]),
        node("GatherElements", ["x", "ie"], ["y"], axis=1),
    ]
    inputs = {"x": [12, 4096, 64], "i": [12, 4096]}
    constants = {"two": ints(2), "shape": ints(12, 4096, 64)}
    return model(nodes, inputs, ["y"], constants, types={"i": INT})


def rows() -> onnx.ModelProto:
    picked = node("Gather", ["x", "i"], ["y"], axis=0)
    return model([picked], {"x": [49152, 64], "i": [49152]}, ["y"], types={"i": INT})


BOUNDS = {
    # bitonic: 65,536 x 16 x 17 / 4 = 4.5 M compare-exchanges on 256 lanes at 1 GHz = 17 us
    ("sort", PIM): (15, 500),
    # radix sort of 64-bit keys with an index: 8 passes x 3 kernels of 1 to 5 us
    ("sort", GPU): (20, 150),
    # 1.0 M comparisons x 3 ns on one core: one row is one thread's
    ("sort", CPU): (1000, 10000),
    # a merge sorter takes an element a cycle, 328 us a pass at 200 MHz
    ("sort", FPGA): (200, 3000),
    # 33.6 MB of bfloat16 must reach the ASIC: 131 us
    ("top-k", PIM): (125, 1000),
    # 67 MB in and out / 460 GB/s = 146 us; 4,096 elements a cycle would need as many comparators
    ("top-k", FPGA): (140, 20000),
    # 0.68 M MAC / 128 multipliers = 5.3 us + 0.3 MB / 257 GB/s
    ("depthwise", PIM): (5, 60),
    # 8.4 M MAC in the banks, as in one product of [1024, 8192]
    ("experts", PIM): (5, 12),
    ("experts", GPU): (9, 22),  # 16.8 MB / 2.04 TB/s = 8.2 us and a start
    ("experts", CPU): (260, 420),  # 33.6 MB / 128 GB/s = 262 us
    ("experts", FPGA): (10, 60),  # 16.8 MB / 460 GB/s = 36.5 us
    # one row of 2 to 4 kB is written, nothing is copied
    ("scatter", PIM): (0.05, 3),
    ("scatter", GPU): (3, 12),
    ("scatter", CPU): (0.1, 25),
    ("scatter", FPGA): (0.1, 10),
    # 6.3 MB in and out / 2.04 TB/s = 6.2 us and a start; 25 MB / 128 GB/s = 197 us, half when warm
    ("repeated index", GPU): (6, 20),
    ("repeated index", CPU): (60, 300),
    ("rows", PIM): (24, 120),  # 6.3 MB to the ASIC and back / 257 GB/s = 49 us
}
BUILDERS = {
    "sort": lambda: top_k(1, 65536, 65536, INT),
    "top-k": lambda: top_k(4096, 4096, 32, TensorProto.FLOAT),
    "depthwise": depthwise,
    "experts": lambda: experts(2),
    "scatter": scatter_row,
    "repeated index": repeated_index,
    "rows": rows,
}


@pytest.mark.parametrize(("name", "target"), BOUNDS)
def test_price_is_within_the_hand_bounds(name: str, target: str, tmp_path: Path) -> None:
    low, high = BOUNDS[name, target]
    assert low <= latency_us(BUILDERS[name](), tmp_path, target) <= high
