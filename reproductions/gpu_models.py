"""Whole models on GPUs against published times: NeuSight's Hugging Face models and FasterTransformer's BERT.

    python reproductions/gpu_models.py [--only bert_large]

NeuSight: float32, eager PyTorch ("fused": torch.compile, here graph launches). Its decoders compute logits
for every position, our presets for the last one only: the missing product is added. Its GPT-3 and OPT sizes
are not presets; their dimensions stand below. FasterTransformer's BERT follows (bert_libraries.py says how
its kernels and host are mapped); decoders, served models and another BERT are in other_models.py.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tetrasim.facade import load_for
from tetrasim.flow.loading import LoadedModel
from tetrasim.flow.phases import lowered_phases
from tetrasim.flow.pricing import OpRow, price_rows
from tetrasim.flow.setup import set_up
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.workload import Workload

DATA = Path(__file__).parents[1] / "tests" / "validation" / "data" / "gpu"
PRESETS = {"bert_large": "bert-large", "gpt2_large": "gpt2-large"}
SIZES = {  # width, layers, heads, activation; shapes of NeuSight's op traces
    "gpt3_xl": (3072, 24, 24, "gelu_tanh"),
    "gpt3_27": (2560, 32, 32, "gelu_tanh"),
    "opt_13": (2048, 24, 32, "relu"),
    "bert-base-1024": (768, 12, 12, "gelu"),
}
LOGITS = {
    "gpt2_large": (1280, 50257),
    "gpt3_xl": (3072, 50257),
    "gpt3_27": (2560, 50257),
    "opt_13": (2048, 50272),
}


@dataclass(frozen=True)
class ModelRow:
    """One published time beside ours, ms."""

    source: str
    preset: str
    case: str
    measured_ms: float
    predicted_ms: float

    @property
    def error(self) -> float:
        return self.predicted_ms / self.measured_ms - 1


@cache
def model_file(name: str) -> str:
    """A preset's name, or a YAML file of one of `SIZES`."""
    if name not in SIZES:
        return PRESETS.get(name, name)
    width, layers, heads, activation = SIZES[name]
    file = Path(tempfile.mkdtemp(prefix="tetrasim-gpu-models-")) / f"{name}.yaml"
    encoder = name.startswith("bert")
    lines = [
        f"title: {name}",
        'source: "dimensions of the measured model"',
        f"width: {width}",
        f"layers: {layers}",
        f"heads: {heads}",
        f"ffn_width: {4 * width}",
        f"activation: {activation}",
        *(ENCODER if encoder else DECODER),
    ]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


DECODER = (
    "architecture: decoder",
    "context: 2048",
    "input: {kind: tokens, vocab: 50257}",
    "head: {kind: lm, tied: true}",
)
ENCODER = (
    "architecture: encoder",
    "norm_first: false",
    "final_norm: false",
    "embedding_norm: true",
    "context: 1024",
    "input: {kind: tokens, vocab: 30522, segments: 2}",
    "head: {kind: pooler}",
)


@cache
def loaded(name: str, batch: int, seq: int) -> tuple[LoadedModel, Workload]:
    """The imported graphs of a model for one workload."""
    return load_for(model_file(name), prompt=seq, batch=batch)


def simulate_ms(name: str, preset: str, batch: int, seq: int, **settings: str | float | bool) -> float:
    """Time of one forward pass."""
    model, workload = loaded(name, batch, seq)
    setup = set_up(f"gpu/{preset}", settings)
    _, family, contexts = lowered_phases(model, setup, workload)[0]
    milliseconds = run_static(setup.target.lower(family.at(contexts[0]), setup.config)).total_ps * 1e-9
    if name in LOGITS:
        k, n = LOGITS[name]
        row = OpRow("matmul", str(settings["precision"]), (("m", batch * seq), ("n", n), ("k", k)))
        milliseconds += float(price_rows([row], setup).latency_us[0]) * 1e-3
    return milliseconds


def table(name: str) -> list[dict[str, str]]:
    """A committed table, without its source line."""
    return rows_of(DATA / f"{name}.csv")


def rows_of(file: Path) -> list[dict[str, str]]:
    """A table, without its source line."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def neusight(only: str = "") -> Iterator[ModelRow]:
    """Eager and compiled float32 models."""
    for row in table("neusight_models"):
        if only not in row["model"]:
            continue
        fused = row["fused"] == "1"
        launch = "graph" if fused else "eager"
        batch, seq = int(row["batch"]), int(row["seq"])
        settings = {"precision": "float32", "launch": launch, "attention": "unfused"}
        ours = simulate_ms(row["model"], row["preset"], batch, seq, **settings)
        source = "NeuSight, compiled" if fused else "NeuSight, eager"
        yield ModelRow(source, row["preset"], f"{row['model']} {batch}x{seq}", float(row["latency_ms"]), ours)


def summary(rows: list[ModelRow]) -> str:
    """Mean absolute error and bias per source and device."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        groups[row.source, row.preset].append(row.error)
    lines = []
    for (source, preset), e in sorted(groups.items()):
        error, bias = np.mean(np.abs(e)), np.mean(e)
        lines.append(f"{source:30s} gpu/{preset:16s} rows {len(e):3d}  error {error:6.1%}  bias {bias:+6.1%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only NeuSight models whose name contains this")
    args = parser.parse_args()
    from bert_libraries import fastertransformer  # that module imports this one

    rows = [*neusight(args.only), *fastertransformer()]
    for row in rows:
        times = f"{row.measured_ms:10.2f} ms, ours {row.predicted_ms:10.2f} ms"
        print(f"{row.source:28s} gpu/{row.preset:16s} {row.case:20s} {times} {row.error:+.1%}")
    print(summary(rows))


if __name__ == "__main__":
    main()
