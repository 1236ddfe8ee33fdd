"""What is measured on a host to check a calibrated model: shapes that the calibration has not seen.

One table for the benchmark that measures and for the validation that predicts. Times are of a whole
`session.run` on one thread, the best of many.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.frontend.onnx import import_onnx
from tetrasim.hw_targets.cpu.calibration.onnx_bench import OpCase, op_model
from tetrasim.hw_targets.cpu.calibration.samples import gemm_case, vector_case
from tetrasim.hw_targets.cpu.validation.graphs import Encoder, transformer
from tetrasim.sim.ir.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

GEMMS = (
    (1, 1024, 1024), (1, 2048, 2048), (1, 640, 2560), (2, 1024, 1024), (5, 768, 2304), (16, 1024, 512),
    (24, 512, 1536), (48, 384, 384), (64, 1024, 1024), (96, 640, 640), (77, 512, 512), (200, 768, 768),
    (256, 1024, 256), (320, 320, 320), (640, 640, 640), (160, 960, 1920),
)  # fmt: skip
BATCHED = ((12, 64, 64, 64), (12, 128, 64, 128), (12, 128, 128, 64), (16, 200, 64, 200), (8, 256, 256, 64))
VECTORS = (
    "Relu", "Add", "Mul", "Div", "Exp", "Tanh", "Erf", "Gelu", "GeluTanh", "Softmax", "LayerNormalization",
    "Where", "Concat", "Transpose",
)  # fmt: skip
VECTOR_SHAPES = ((32, 512), (128, 768), (384, 1536))
BERT_TOKENS = (32, 128, 384)
GPT2_CONTEXTS = (32, 128, 512, 1000)


@dataclass(frozen=True, slots=True)
class Case:
    """`group`: BERT block, GPT-2 decode, GEMM or other ops."""

    group: str
    name: str
    threads: int = 1


def op_cases() -> dict[Case, Callable[[], OpCase]]:
    """Single-op cases and how to make them."""
    found: dict[Case, Callable[[], OpCase]] = {}
    for m, k, n in GEMMS:
        found[Case("GEMM", f"MatMul {m}x{k}x{n}")] = partial(gemm_case, m, k, n, True)
    for b, m, k, n in BATCHED:
        found[Case("GEMM", f"batched MatMul {b}x{m}x{k}x{n}")] = partial(_batched_case, b, m, k, n)
    for op in VECTORS:
        for rows, cols in VECTOR_SHAPES:
            found[Case("other ops", f"{op} {rows}x{cols}")] = partial(vector_case, op, rows, cols)
    return found


def _batched_case(b: int, m: int, k: int, n: int) -> OpCase:
    rng = np.random.default_rng(b)
    return OpCase(
        "MatMul", (("a", rng.random((b, m, k), np.float32)), ("b", rng.random((b, k, n), np.float32)))
    )


def model_cases() -> dict[Case, Graph]:
    """Whole models, as the importer makes them of the exported presets bert-base and gpt2-small."""
    found = {bert_case(tokens): transformer(bert(tokens)) for tokens in BERT_TOKENS}
    return found | {gpt2_case(past): transformer(gpt2_step(past)) for past in GPT2_CONTEXTS}


def bert_case(tokens: int, threads: int = 1) -> Case:
    """bert-base, one forward run."""
    return Case("BERT block", f"bert-base {tokens} tokens", threads)


def gpt2_case(past: int, threads: int = 1) -> Case:
    """gpt2-small, one decoding step."""
    return Case("GPT-2 decode", f"gpt2-small step over {past} keys", threads)


def bert(tokens: int) -> Encoder:
    """BERT-base's blocks (embeddings and pooler are below 1 % of the time)."""
    return Encoder(layers=12, width=768, heads=12, ffn=3072, tokens=tokens, post_norm=True)


def gpt2_step(past: int) -> Encoder:
    """One step of GPT-2 small."""
    return Encoder(12, 768, 12, 3072, 1, vocabulary=50257, past=past, approximate="tanh")


def op_graph(case: OpCase) -> Graph:
    """The case's one-node model, imported."""
    with tempfile.TemporaryDirectory(prefix="tetrasim-case-") as folder:
        path = Path(folder) / "op.onnx"
        path.write_bytes(op_model(case).SerializeToString())
        return import_onnx(path, {})


def feeds_of(case: OpCase) -> dict[str, NDArray[np.generic]]:
    """The arrays that are not constants of the model."""
    return {name: np.ascontiguousarray(a) for name, a in case.inputs if name not in case.constant}


def mean_absolute(errors: Sequence[float]) -> float:
    """Mean absolute value, as a fraction."""
    return float(np.mean(np.abs(errors)))
