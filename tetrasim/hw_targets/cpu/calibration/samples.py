"""What `calibrate` measures through onnxruntime: single ops of a chosen size, products hot and cold.

Sizes are chosen so that a vector op's data stays in L2 (the loop is measured, not the memory), and products
cover few rows, whole tiles, remainders, long depths, packed and constant operands. A cold product reads its
weight from main memory: a chain of different weights larger than the last cache. On all threads a handful of
products tells the common clock, the cost of handing out work, and what all cores together read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.cpu.calibration.onnx_bench import OpCase, bound_run, chain_of, op_model, session
from tetrasim.hw_targets.cpu.calibration.rounds import Probe
from tetrasim.sim.ops.work import Gemm

if TYPE_CHECKING:
    import onnxruntime as ort
    from numpy.typing import NDArray

    from tetrasim.hw_targets.cpu.calibration.hostinfo import HostInfo

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
INTEGER = (512, 512, 512)  # also one of HOT
COLD_ROWS = (1, 2, 4, 12, 32, 128)
SHORT_ROWS = 4
STREAM_VISIT_S = 0.12  # longer than others: memory is what other programs disturb most
# Of several threads: one row, few rows, whole tiles, more rows than columns; the largest gives the clock.
SHARED = (
    (1, 768, 768), (1, 512, 2048), (1, 2048, 2048), (8, 768, 768), (32, 768, 768), (128, 768, 768),
    (512, 512, 512),
)  # fmt: skip
SHARED_COLD_ROWS = (1, 4, 32)
CHAIN_WIDTH, CHAIN_HIDDEN = 768, 3072
MOST_CHAIN_BYTES = 1 << 30  # an ONNX file holds less than 2 GiB


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a probe times: "hot" or "cold" products, a vector "op", or one of the machine's own probes."""

    kind: str
    size: tuple[int, ...] = ()
    op: str = ""
    constant: bool = True
    threads: int = 1


@dataclass(frozen=True, slots=True)
class GemmSample:
    """Best seconds of one product; `cold`: its weight came from main memory."""

    gemm: Gemm
    cold: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class VectorSample:
    """Best seconds of one op over `elements`, without the cost of the run and the node."""

    op: str
    seconds: float
    elements: int = ROWS * COLS


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


def gemm_case(m: int, k: int, n: int, constant: bool) -> OpCase:
    """One product of random matrices."""
    rng = np.random.default_rng(m)
    a = rng.random((m, k), np.float32)
    b = rng.random((k, n), np.float32)
    return OpCase("MatMul", (("a", a), ("b", b)), frozenset("b") if constant else frozenset())


@dataclass(frozen=True)
class ColdChain:
    """A session over products with different weights, more than the caches hold."""

    session: ort.InferenceSession
    products: int


def chain_weights(host: HostInfo) -> tuple[NDArray[np.float32], ...]:
    """Weights beyond four times the last cache and 256 MiB, of at most a sixteenth of the memory: enough
    pages that it does not matter which of them the system hands out. All differ: onnxruntime keeps equal
    weights once."""
    wanted = min(max(4 * host.l3_bytes, 256 << 20), host.memory_bytes // 16, MOST_CHAIN_BYTES)
    pairs = wanted // (2 * 4 * CHAIN_WIDTH * CHAIN_HIDDEN) + 1
    shapes = ((CHAIN_WIDTH, CHAIN_HIDDEN), (CHAIN_HIDDEN, CHAIN_WIDTH)) * pairs
    return tuple(np.full(s, 1e-3 + 1e-6 * i, np.float32) for i, s in enumerate(shapes))


def cold_chains(weights: Sequence[NDArray[np.float32]], threads: Sequence[int]) -> list[ColdChain]:
    """A session of the chain per entry of `threads`, each with a copy of the weights; any number of rows can
    be fed."""
    model = chain_of("MatMul", np.ones((1, CHAIN_WIDTH), np.float32), weights).SerializeToString()
    return [ColdChain(session(model, count), len(weights)) for count in threads]


def vector_rows(host: HostInfo) -> int:
    """Rows of the vector ops: three operands of that size fit L2."""
    return ROWS if host.l2_bytes >= 16 * ROWS * COLS else ROWS // 2


def op_probes(rows: int) -> list[Probe[Kernel]]:
    """A run of nearly nothing, every vector op, and the products whose operands stay in caches."""
    empty = OpCase("Relu", (("x", np.ones((1, 1), np.float32)),))
    out = [Probe(Kernel("empty"), _run(empty, 1))]
    out += [Probe(Kernel("op", (rows, COLS), op), _run(vector_case(op, rows, COLS), 1)) for op in VECTOR_OPS]
    out.append(Probe(Kernel("int8", INTEGER), _run(integer_case(*INTEGER), 1)))
    for shapes, constant in ((HOT, True), (PACKED, False)):
        out += [Probe(Kernel("hot", s, constant=constant), _run(gemm_case(*s, constant), 1)) for s in shapes]
    return out


def integer_case(m: int, k: int, n: int) -> OpCase:
    """One product of unsigned activations and signed weights, as quantised graphs have it."""
    rng = np.random.default_rng(m)
    a = rng.integers(0, 128, (m, k), np.uint8)
    b = rng.integers(-64, 64, (k, n), np.int8)
    return OpCase("MatMulInteger", (("a", a), ("b", b)), frozenset("b"))


def integer_rate(best: Mapping[Kernel, float]) -> float:
    """Multiply-adds on int8 per multiply-add on float32, from one product of each."""
    return best[Kernel("hot", INTEGER)] / best[Kernel("int8", INTEGER)]


def cold_probes(chain: ColdChain, rows: Sequence[int], threads: int, copy: str = "") -> list[Probe[Kernel]]:
    """The whole chain per number of rows, twice where it is short: the best of short spells would find more
    bandwidth than the whole run of a model does. `copy` tells chains of the same threads apart."""
    out = []
    for m in rows:
        feeds = {"x": np.ones((m, CHAIN_WIDTH), np.float32)}
        passes = 2 if m < SHORT_ROWS else 1

        def run(feeds: dict[str, NDArray[np.float32]] = feeds, passes: int = passes) -> None:
            for _ in range(passes):
                chain.session.run(None, feeds)

        key = Kernel("cold", (m, passes * chain.products), copy, threads=threads)
        out.append(Probe(key, run, STREAM_VISIT_S if m == 1 else 0.0, threads, warm=False))
    return out


def shared_probes(threads: int) -> list[Probe[Kernel]]:
    """Products on all threads, in caches, and a run of nearly nothing there."""
    empty = OpCase("Relu", (("x", np.ones((1, 1), np.float32)),))
    out = [Probe(Kernel("empty", threads=threads), _run(empty, threads), threads=threads)]
    for shape in SHARED:
        key = Kernel("hot", shape, threads=threads)
        out.append(Probe(key, _run(gemm_case(*shape, True), threads), threads=threads))
    return out


def _run(case: OpCase, threads: int) -> Callable[[], object]:
    return bound_run(case.inputs, op_model(case), threads)


def vector_samples(best: Mapping[Kernel, float]) -> tuple[VectorSample, ...]:
    """The vector ops among the timings, without the cost of a run."""
    empty = best[Kernel("empty")]
    return tuple(
        VectorSample(k.op, max(seconds - empty, 1e-9), k.size[0] * k.size[1])
        for k, seconds in best.items()
        if k.kind == "op"
    )


def gemm_samples(best: Mapping[Kernel, float], threads: int) -> tuple[GemmSample, ...]:
    """The products among the timings, without the cost of a run (a chain has hardly any).

    Fewer rows of the same product are never slower: where they seem to be, the time was disturbed."""
    hot = {k: s for k, s in best.items() if k.kind == "hot" and k.threads == threads}
    cold: dict[Kernel, float] = {}
    for k, seconds in best.items():
        if k.kind == "cold" and k.threads == threads:
            # Where the system puts a copy of the weights can cost a sixth of the bandwidth: the best counts.
            alike = replace(k, op="")
            cold[alike] = min(cold.get(alike, float("inf")), seconds / k.size[1])
    empty = best[Kernel("empty", threads=threads)]
    out = []
    for k, seconds in hot.items():
        more = (s for j, s in hot.items() if _more_rows(j, k))
        m, depth, n = k.size
        own = max(min((seconds, *more)) - empty, 1e-9)
        out.append(GemmSample(Gemm(1, m, n, depth, k.constant), False, own))
    for k, seconds in cold.items():
        own = min((seconds, *(s for j, s in cold.items() if j.size[0] > k.size[0])))
        for n, depth in ((CHAIN_HIDDEN, CHAIN_WIDTH), (CHAIN_WIDTH, CHAIN_HIDDEN)):
            out.append(GemmSample(Gemm(1, k.size[0], n, depth), True, own))
    return tuple(out)


def _more_rows(a: Kernel, b: Kernel) -> bool:
    return a.constant == b.constant and a.size[1:] == b.size[1:] and a.size[0] > b.size[0]
