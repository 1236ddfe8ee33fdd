"""Measured 16-bit products that no fit uses: they ship beside the left-out rows and are validated with them.

- Vidur's profile of the linear layers of Llama-2-7B, Llama-3-8B, InternLM-20B and phi-2 (A40, A100, H100):
  one row per op and number of tokens, whole microseconds. No table of an A40 is in any fit.
- LLMCompass's PyTorch products on A100 (eager, the framework's launch included).
- cuBLAS on T4, from a CUTLASS issue; how it was timed is not said (taken as launches into a stream).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tetrasim.hw_targets.gpu.config import Launch
from tetrasim.hw_targets.gpu.measurements import Measured, gemms, read_columns, transpose

VIDUR = "microsoft/vidur @ 7d47513363ec, MIT"
LLMCOMPASS = "PrincetonUniversity/LLMCompass @ 2e015fd2ee75, BSD-3-Clause"
CUTLASS = "figures of github.com/NVIDIA/cutlass/issues/106"
SOURCES = f"{VIDUR}; {LLMCOMPASS}; {CUTLASS}"
_DEVICES = {"a40": "a40", "a100": "a100-sxm4-80gb", "h100": "h100-sxm"}
_FFN_AND_HEAD = {  # the models' own configuration files
    "Llama-2-7b-hf": (11008, 128),
    "Meta-Llama-3-8B": (14336, 128),
    "internlm-20b": (13824, 128),
    "phi-2": (10240, 80),
}


def unfitted(folder: Path) -> Iterator[Measured]:
    """Every table, one set per preset."""
    columns = read_columns(folder / "vidur_llm_linear_fp16.csv")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for device, preset in _DEVICES.items():
        shapes = [_linear(r) for r in rows if r["device"] == device]
        yield gemms(preset, "linear half", "half", transpose([s for s in shapes if s]))
    ops = read_columns(folder / "llmcompass_ops_fp16.csv")
    named = [dict(zip(ops, values, strict=True)) for values in zip(*ops.values(), strict=True)]
    products = [
        {"m": r["d0"], "n": r["d2"], "k": r["d1"], "latency_us": r["latency_us"]}
        for r in named
        if r["device"] == "A100" and r["op"] == "matmul"
    ]
    yield gemms("a100-sxm4-80gb", "matmul half", "half", transpose(products), Launch.EAGER)
    points = read_columns(folder / "misc_published_points.csv")
    found = [
        {**_assigned(params), "latency_us": str(1e3 * float(value))}
        for device, what, value, params in zip(
            *(points[c] for c in ("device", "what", "value", "params")), strict=True
        )
        if (device, what) == ("T4", "fp16 tensor-core GEMM cuBLAS")
    ]
    yield gemms("t4", "matmul half", "half", transpose(found), Launch.STREAM)


def _linear(row: Mapping[str, str]) -> dict[str, str]:
    """The product behind one op of a layer; empty for ops that are none."""
    width, heads, kv_heads = int(row["n_embd"]), int(row["n_head"]), int(row["n_kv_head"])
    ffn, head = _FFN_AND_HEAD[row["model"]]
    up = ffn * (2 if row["use_gated_mlp"] == "True" else 1)
    n_and_k = {
        "attn_pre_proj": ((heads + 2 * kv_heads) * head, width),
        "attn_post_proj": (width, heads * head),
        "mlp_up_proj": (up, width),
        "mlp_down_proj": (width, ffn),
    }
    if row["op"] not in n_and_k:
        return {}
    n, k = n_and_k[row["op"]]
    return {"m": row["num_tokens"], "n": str(n), "k": str(k), "latency_us": row["latency_us"]}


def _assigned(text: str) -> dict[str, str]:
    """`m=32;n=1024` as a dictionary."""
    pairs = (part.split("=") for part in text.split(";"))
    return {name: value for name, value in pairs}
