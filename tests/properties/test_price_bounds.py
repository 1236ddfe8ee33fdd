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

from tetrasim.flow.loading import find_model, load_model
from tetrasim.flow.request import workload_for
from tetrasim.flow.setup import set_up
from tetrasim.flow.simulate import simulate

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


def selective_scan(steps: int = 64) -> onnx.ModelProto:
    """h = h a_t + u_t, y_t = h c_t on a state of 2,048 x 16, written out step by step."""
    nodes, constants = [], {"h0": np.zeros((2048, 16), np.float32), "zero": ints(0)}
    for t in range(steps):
        constants[f"t{t}"] = np.array(t)
        nodes += [node("Gather", [name, f"t{t}"], [f"{name}{t}"], axis=0) for name in "auc"]
        nodes += [
            node("Mul", [f"h{t}", f"a{t}"], [f"m{t}"]),
            node("Add", [f"m{t}", f"u{t}"], [f"h{t + 1}"]),
            node("MatMul", [f"h{t + 1}", f"c{t}"], [f"r{t}"]),
            node("Unsqueeze", [f"r{t}", "zero"], [f"y{t}"]),
        ]
    nodes.append(node("Concat", [f"y{t}" for t in range(steps)], ["y"], axis=0))
    inputs = {"a": [steps, 2048, 16], "u": [steps, 2048, 16], "c": [steps, 16, 1]}
    return model(nodes, inputs, ["y"], constants)


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
    # 2.1 M multiply-adds x 2 / 128 multipliers at 1 GHz = 33 us + 8.4 MB / 257 GB/s = 33 us
    ("selective scan", PIM): (33, 130),
    ("selective scan", GPU): (4, 30),  # one kernel: 8.4 MB / 2.04 TB/s = 4.1 us; unrolled it is 250 kernels
    ("selective scan", CPU): (17, 750),  # 16.8 MB / 1 TB/s from the last cache; 131 us from DRAM
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
    "selective scan": selective_scan,
}


@pytest.mark.parametrize(("name", "target"), BOUNDS)
def test_price_is_within_the_hand_bounds(name: str, target: str, tmp_path: Path) -> None:
    low, high = BOUNDS[name, target]
    assert low <= latency_us(BUILDERS[name](), tmp_path, target) <= high


# One op of each kind on 4.2 M elements: (op, inputs, constants, attributes, elements read and written).
SIZE = [4096, 1024]
CUBE = [64, 256, 256]
N = 4096 * 1024
KINDS: dict[str, tuple[str, dict[str, list[int]], dict[str, np.ndarray], dict[str, object], int]] = {
    "element-wise": ("Add", {"x": SIZE, "z": SIZE}, {}, {}, 3 * N),
    "function": ("Exp", {"x": SIZE}, {}, {}, 2 * N),
    "comparison": ("Greater", {"x": SIZE, "z": SIZE}, {}, {}, 2 * N),
    "join rows": ("Concat", {"x": SIZE, "z": SIZE}, {}, {"axis": 0}, 4 * N),
    "join columns": ("Concat", {"x": SIZE, "z": SIZE}, {}, {"axis": 1}, 4 * N),
    "every second": (
        "Slice",
        {"x": SIZE},
        {"s": ints(0), "e": ints(1024), "a": ints(1), "st": ints(2)},
        {},
        N,
    ),
    "repeat": ("Tile", {"x": [1024, 1024]}, {"r": ints(4, 1)}, {}, N + N // 4),
    "turn": ("Transpose", {"x": SIZE}, {}, {"perm": [1, 0]}, 2 * N),
    "turn blocks": ("Transpose", {"x": [8, 32, 64, 256]}, {}, {"perm": [0, 2, 1, 3]}, 2 * N),
    "sum of the first axis": ("ReduceSum", {"x": CUBE}, {"a": ints(0)}, {}, N),
    "sum of the last axis": ("ReduceSum", {"x": CUBE}, {"a": ints(2)}, {}, N),
    "sum of all": ("ReduceMean", {"x": [1, N]}, {"a": ints(1)}, {}, N),
    "softmax": ("Softmax", {"x": SIZE}, {}, {"axis": 1}, 2 * N),
    "running sum": ("CumSum", {"x": SIZE}, {"a": np.array(1)}, {}, 2 * N),
    "place of the largest": ("ArgMax", {"x": SIZE}, {}, {"axis": 1}, N),
    "pooling": (
        "MaxPool",
        {"x": [1, 64, 256, 256]},
        {},
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        N + N // 4,
    ),
    "eight largest": ("TopK", {"x": SIZE}, {"k": ints(8)}, {"axis": 1}, N),
    "windows of pixels": ("DepthToSpace", {"x": [1, 64, 256, 256]}, {}, {"blocksize": 2}, 2 * N),
}
# Bytes an element, bytes/s of the memory that holds 8 to 50 MB, and of the fastest memory of the device.
MEMORY = {
    PIM: (2, 257e9, 1024e9),
    GPU: (2, 2.04e12, 6e12),
    CPU: (4, 128e9, 3e12),
    FPGA: (2, 460e9, 2e12),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_op_is_below_its_floor_or_far_above_its_traffic(kind: str, tmp_path: Path) -> None:
    """Every byte passes the device's fastest memory once, and nothing that a library does in one pass takes
    thirty times as long as its bytes from the slower one."""
    op, inputs, constants, attrs, elements = KINDS[kind]
    outputs = ["y", "i"] if op == "TopK" else ["y"]
    proto = model([node(op, [*inputs, *constants], outputs, **attrs)], inputs, ["y"], constants)
    for target, (size, slow, fast) in MEMORY.items():
        price = latency_us(proto, tmp_path, target)
        assert 1e6 * elements * size / fast <= price <= 30e6 * elements * size / slow, target
