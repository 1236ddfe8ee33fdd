"""What `calibrate` measures through onnxruntime: single ops of a chosen size, products hot and cold.

Sizes are chosen so that a vector op's data stays in L2 (the loop is measured, not the memory), and products
cover few rows, whole tiles, remainders, long depths, packed and constant operands. A cold product reads its
weight from main memory: a chain of different weights larger than the last cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tetrasim.hw_targets.cpu.calibration.onnx_bench import (
    OpCase,
    bound_run,
    chain_of,
    op_model,
    op_seconds,
    session,
)
from tetrasim.hw_targets.cpu.calibration.probe import best_seconds
from tetrasim.sim.ops.work import Gemm

if TYPE_CHECKING:
    import onnxruntime as ort

ROWS, COLS = 64, 1024
VECTOR_OPS = (
    "Relu", "Identity", "Add", "Mul", "Div", "Sqrt", "Exp", "Erf", "Tanh", "Log", "Pow", "Sin", "Less",
    "Cast", "Where", "Gelu", "GeluTanh", "Softmax", "LayerNormalization", "Concat", "Transpose",
    "TransposeOdd", "SkipLayerNormalization",
)  # fmt: skip
HOT = (
    (1, 768, 768), (1, 512, 2048), (2, 512, 512), (4, 768, 768), (8, 768, 768), (12, 512, 512),
    (13, 512, 512), (32, 768, 768), (64, 64, 64), (128, 64, 128), (128, 768, 768), (128, 2048, 512),
    (256, 256, 256), (100, 300, 500), (512, 512, 512), (384, 1536, 384), (1024, 1024, 1024),
    (2048, 1024, 2048),
)  # fmt: skip
PACKED = ((16, 512, 512), (64, 64, 64), (128, 64, 128), (128, 128, 64), (256, 512, 512), (512, 512, 512))
COLD_ROWS = (1, 2, 4, 12, 32, 128)


@dataclass(frozen=True, slots=True)
class GemmSample:
    """Best seconds of one product; `cold`: its weight came from main memory."""

    gemm: Gemm
    cold: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class VectorSample:
    """Best seconds of one op over ROWS x COLS, without the cost of the run and the node."""

    op: str
    seconds: float


def vector_case(op: str, rows: int, cols: int) -> OpCase:
    """The op on random positive data, as transformer graphs use it."""
    rng = np.random.default_rng(0)
    x = rng.random((rows, cols), np.float32) + np.float32(0.1)
    one: tuple[str, NDArray[np.generic]] = ("x", x)
    more: dict[str, tuple[tuple[str, NDArray[np.generic]], ...]] = {
        "Add": (("y", x + 1),),
        "Mul": (("y", x + 1),),
        "Div": (("y", x + 1),),
        "Less": (("y", x + 1),),
        "Pow": (("p", np.full(1, 3.0, np.float32)),),
        "LayerNormalization": (("w", x[0]), ("b", x[1])),
    }
    attributes: dict[str, dict[str, int | float | str | Sequence[int]]] = {
        "Cast": {"to": 6},
        "GeluTanh": {"approximate": "tanh"},
        "Concat": {"axis": 0},
        "Transpose": {"perm": (1, 0)},
        "TransposeOdd": {"perm": (1, 0)},
    }
    inputs = (one, *more.get(op, ()))
    if op == "TransposeOdd":
        # As many elements in rows that are not a power of two: these fall into other sets of the cache.
        inputs = (("x", x.reshape(-1)[: ROWS * COLS // 96 * 96].reshape(96, -1)),)
    if op == "SkipLayerNormalization":
        inputs = (("x", x[None]), ("y", x[None] + 1), ("w", x[0]), ("b", x[1]))
    if op == "Where":
        inputs = (("m", x > 0.5), one, ("y", x + 1))
    elif op == "Concat":
        inputs = (("x", x[: rows // 2]), ("y", x[rows // 2 :]))
    name = {"GeluTanh": "Gelu", "TransposeOdd": "Transpose"}.get(op, op)
    return OpCase(name, inputs, frozenset("pwb"), attributes.get(op, {}))


def measure_vectors(threads: int) -> tuple[VectorSample, ...]:
    """Every op of VECTOR_OPS, the cost of the run included."""
    return tuple(
        VectorSample(op, op_seconds(vector_case(op, ROWS, COLS), threads, at_least_s=0.05))
        for op in VECTOR_OPS
    )


def gemm_case(m: int, k: int, n: int, constant: bool) -> OpCase:
    """One product of random matrices."""
    rng = np.random.default_rng(m)
    a = rng.random((m, k), np.float32)
    b = rng.random((k, n), np.float32)
    return OpCase("MatMul", (("a", a), ("b", b)), frozenset("b") if constant else frozenset())


def measure_gemms(threads: int, chain: ColdChain) -> tuple[GemmSample, ...]:
    """Hot, packed and cold products, the cost of the run included."""
    found = []
    for shapes, constant in ((HOT, True), (PACKED, False)):
        for m, k, n in shapes:
            seconds = op_seconds(gemm_case(m, k, n, constant), threads, at_least_s=0.1)
            found.append(GemmSample(Gemm(1, m, n, k, constant), False, seconds))
    for m in COLD_ROWS:
        found.extend(cold_samples(chain, m))
    return tuple(found)


@dataclass(frozen=True)
class ColdChain:
    """A session over products with different weights, more than the caches hold."""

    session: ort.InferenceSession
    products: int


def cold_chain(l3_bytes: int, memory_bytes: int, threads: int) -> ColdChain:
    """Alternating 768 x 3072 and 3072 x 768, together twelve times the last cache (a sweep still finds a
    part of a smaller set there), at least 128 MB, at most 450 MB and an eighth of the memory. All differ:
    onnxruntime keeps one packed copy of equal weights."""
    rng = np.random.default_rng(1)
    wanted = min(max(12 * l3_bytes, 128 << 20), 450 << 20, memory_bytes // 8)
    pairs = wanted // (2 * 4 * 768 * 3072) + 1
    shapes = ((768, 3072), (3072, 768)) * pairs
    weights = tuple(rng.random(s, np.float32) * np.float32(1e-3) for s in shapes)
    model = chain_of("MatMul", np.ones((1, 768), np.float32), weights)
    return ColdChain(session(model.SerializeToString(), threads), len(weights))


def cold_samples(chain: ColdChain, m: int) -> tuple[GemmSample, GemmSample]:
    """The mean of one product of the chain, as the two shapes alternate."""
    feeds = {"x": np.ones((m, 768), np.float32)}
    seconds = best_seconds(lambda: chain.session.run(None, feeds), 5, 1.0 if m == 1 else 0.3)
    seconds /= chain.products
    return GemmSample(Gemm(1, m, 3072, 768), True, seconds), GemmSample(Gemm(1, m, 768, 3072), True, seconds)


def best_vectors(passes: Sequence[Sequence[VectorSample]], empty_s: float) -> tuple[VectorSample, ...]:
    """The best of several passes, op by op, without the cost of a run: load comes and goes in longer spans
    than one op takes."""
    best = (min(group, key=lambda s: s.seconds) for group in zip(*passes, strict=True))
    return tuple(replace(s, seconds=max(s.seconds - empty_s, 1e-9)) for s in best)


def best_gemms(passes: Sequence[Sequence[GemmSample]], empty_s: float) -> tuple[GemmSample, ...]:
    """The best of several passes, product by product, without the cost of a run (a chain has hardly any)."""
    best = (min(group, key=lambda s: s.seconds) for group in zip(*passes, strict=True))
    return tuple(s if s.cold else replace(s, seconds=max(s.seconds - empty_s, 1e-9)) for s in best)


def empty_run_seconds(threads: int) -> float:
    """A run of one node on one element."""
    case = OpCase("Relu", (("x", np.ones((1, 1), np.float32)),))
    return best_seconds(bound_run(case.inputs, op_model(case), threads), 50, 0.1)
