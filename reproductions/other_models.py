"""More published times of whole models, none of them used in any fit: decoders, serving, another BERT.

    python reproductions/other_models.py [--rows] [--only gpt|serving|bert]

 - gpt: FasterTransformer's GPT on one A100 (350M, 1.3B, 6.7B, 20B parameters): a prompt phase and the
   tokens' steps; kernels and host as in bert_libraries.py. Sampling and the host's check for the end of
   text are not modelled.
 - serving: Llama 3.1 8B on one H100 or H200 at steady concurrency. A step serves all sequences, and each
   sequence is replaced after its last token, so that one prompt phase per sequence and lifetime falls
   between steps: time per token = step + batch x prompt phase / tokens. Steps are taken at the middle of
   the output, from CUDA graphs. vLLM's rows are shorter than their prompts' flops at the peak allow: its
   prompts are taken as cached.
 - bert: TensorFlow 1 with XLA (NVIDIA's DeepLearningExamples). XLA fuses chains; a launch costs what
   byte_transformer.py takes for TensorFlow.
Splitwise's table runs on 2 to 8 GPUs, which is not modelled.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from bert_libraries import Settings, encoder_ms, framework_ms, host_settings
from byte_transformer import framework_launch_s
from gpu_models import ModelRow, summary, table

from tetrasim.facade import load_for
from tetrasim.flow.phases import run_phases
from tetrasim.flow.setup import set_up

GPT = {"350m": (1024, 24, 16), "1.3b": (2048, 24, 32), "6.7b": (4096, 32, 32), "20b": (6144, 44, 48)}
LLAMA = {  # width, layers, heads, kv heads, head dim, ffn, vocab: the published configuration
    "llama31-8b": (4096, 32, 32, 8, 128, 14336, 128256),
}
PREFIX_CACHED = ("vllm",)
Chosen = tuple[tuple[str, str | float | bool], ...]
BERT_DEVICE = {"T4": "t4", "A100-40GB": "a100-pcie-40gb"}  # the others: V100
BERT_BOARD: dict[str, Settings] = {"a100-pcie-40gb": {"power.cap_w": 400}}  # that A100 is a DGX's


@cache
def model_file(name: str) -> str:
    """A YAML file of one of the decoders."""
    if name in GPT:
        width, layers, heads = GPT[name]
        lines = [f"width: {width}", f"layers: {layers}", f"heads: {heads}", f"ffn_width: {4 * width}"]
        lines += [
            "activation: gelu_tanh",
            "input: {kind: tokens, vocab: 51200}",
            "head: {kind: lm, tied: true}",
        ]
    else:
        width, layers, heads, kv, dim, ffn, vocab = LLAMA[name]
        lines = [
            f"width: {width}",
            f"layers: {layers}",
            f"heads: {heads}",
            f"kv_heads: {kv}",
            f"head_dim: {dim}",
        ]
        lines += [f"ffn_width: {ffn}", "gated: true", "activation: silu", "ffn_bias: false", "norm: rms"]
        lines += ["attention_bias: false", "positions: rotary", f"input: {{kind: tokens, vocab: {vocab}}}"]
        lines += ["head: {kind: lm, tied: false}"]
    file = Path(tempfile.mkdtemp(prefix="tetrasim-other-models-")) / f"m{name.replace('.', '_')}.yaml"
    head = [
        f"title: {name}",
        'source: "the published configuration"',
        "architecture: decoder",
        "context: 16384",
    ]
    file.write_text("\n".join([*head, *lines]) + "\n")
    return str(file)


@cache
def phases_ms(
    name: str, preset: str, batch: int, prompt: int, generate: int, chosen: Chosen
) -> tuple[float, float]:
    """Prompt phase and mean step of a generation."""
    model, workload = load_for(model_file(name), prompt=prompt, generate=generate, batch=batch)
    setup = set_up(f"gpu/{preset}", dict(chosen))
    found = {phase.name: phase.totals.total_ps for phase in run_phases(model, setup, workload)}
    decode = found.get("decode")
    return float(found["prefill"].sum()) * 1e-9, 0.0 if decode is None else float(decode.mean()) * 1e-9


def gpt() -> Iterator[ModelRow]:
    """FasterTransformer's GPT: `out_len` tokens, the first of which the prompt phase gives."""
    settings: Settings = {
        "precision": "float16",
        "fusion": "chains",
        "joint_products": True,
        "tuned_products": True,
    }
    settings |= host_settings(1.0)
    for row in table("fastertransformer_gpt"):
        batch, prompt, tokens = int(row["batch"]), int(row["in_len"]), int(row["out_len"])
        first, step = phases_ms(
            row["model"], "a100-sxm4-80gb", batch, prompt, tokens, tuple(settings.items())
        )
        ours = first + (tokens - 1) * step
        case = f"{batch}x{prompt}+{tokens}"
        yield ModelRow(
            f"FasterTransformer GPT {row['model']}", "a100-sxm4-80gb", case, float(row["latency_ms"]), ours
        )


def serving(rows: Sequence[Mapping[str, str]] | None = None) -> Iterator[ModelRow]:
    """Time per output token of servers at steady concurrency: all rows of the table, or those given."""
    for row in table("serving") if rows is None else rows:
        batch, prompt, tokens = int(row["batch"]), int(row["in_len"]), int(row["out_len"])
        settings: Settings = {"precision": row["precision"], "attention": "paged"}
        chosen = tuple(settings.items())
        _, step = phases_ms(row["model"], row["preset"], batch, prompt + tokens // 2, 2, chosen)
        first, _ = phases_ms(row["model"], row["preset"], 1, prompt, 1, chosen)
        prompts = 0.0 if row["backend"] in PREFIX_CACHED else batch * first / tokens
        ours = step + prompts
        source = f"{row['backend']} {row['model']} {row['precision']}"
        yield ModelRow(source, row["preset"], f"{batch}x{prompt}+{tokens}", float(row["tpot_ms"]), ours)


def tensorflow_bert() -> Iterator[ModelRow]:
    """BERT under TensorFlow 1 and XLA."""
    launch_s = framework_launch_s("XLA")
    for row in table("tensorflow_bert"):
        preset = BERT_DEVICE.get(row["device"], "v100-pcie-32gb")
        guide = "a100-sxm4-80gb" if preset.startswith("a100") else preset
        slower = framework_ms(guide) / framework_ms("a100-sxm4-80gb")
        settings: Settings = {"precision": row["precision"], "fusion": "chains", "attention": "unfused"}
        settings |= {
            "launch": "stream",
            "host.stream_launch_s": launch_s * slower,
            **BERT_BOARD.get(preset, {}),
        }
        ours = encoder_ms(row["model"], preset, int(row["batch"]), int(row["seq"]), settings)
        case = f"{row['model']} {row['batch']}x{row['seq']}"
        yield ModelRow(f"TensorFlow 1 BERT {row['precision']}", preset, case, float(row["latency_ms"]), ours)


TABLES = {"gpt": gpt, "serving": serving, "bert": tensorflow_bert}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", action="store_true", help="print every row")
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    args = parser.parse_args()
    for name, found in TABLES.items():
        if args.only not in (None, name):
            continue
        rows = list(found())
        for row in rows if args.rows else ():
            times = f"{row.measured_ms:9.2f} ms, ours {row.predicted_ms:9.2f} ms"
            print(f"{row.source:32s} gpu/{row.preset:16s} {row.case:20s} {times} {row.error:+.1%}")
        print(summary(rows))


if __name__ == "__main__":
    main()
