"""Measure this machine's GPU with torch and compare with the model: GEMM, attention, norms, a GPT-2 step.

    python benchmarks/measure_gpu.py --on gpu/h100-sxm [--out table.csv] [--repeats 20] [--quick]

Kernels are captured in a CUDA graph and replayed, as the model's `graph` launch mode assumes; weights rotate
over five copies. Each row is the least of `--repeats` replays. The table names device, driver and versions.
Without a GPU the same code runs on CPU tensors (`--device cpu`): that tests the harness, not the model.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.flow.pricing import OpRow, price_rows
from tetrasim.flow.setup import Setup, set_up

if TYPE_CHECKING:
    import torch

COPIES = 5
GEMMS = [(m, n, k) for m in (1, 16, 128, 1024, 4096) for n, k in ((1024, 1024), (4096, 4096), (4096, 16384))]
ATTENTIONS = [  # batch, q_len, heads, kv_heads, head_dim, kv_len, causal
    (1, 1, 32, 8, 128, 4096, 1), (16, 1, 32, 8, 128, 4096, 1), (1, 2048, 32, 8, 128, 2048, 1),
    (8, 512, 16, 16, 64, 512, 0),
]  # fmt: skip
VECTORS = [("layernorm", 4096, 4096), ("softmax", 4096, 2048), ("gelu", 4096, 4096), ("add", 4096, 4096)]
GPT2 = {"width": 768, "layers": 12, "heads": 12, "context": 1024}


@dataclass(frozen=True)
class Row:
    """One measured op beside the model's price; `predicted_us` 0 where there is none."""

    op: str
    dims: str
    measured_us: float
    predicted_us: float

    @property
    def error(self) -> float:
        return self.predicted_us / self.measured_us - 1 if self.predicted_us else float("nan")


def least_us(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The shortest of `repeats` runs, us: CUDA-graph replays on a GPU, plain calls on a CPU."""
    import torch

    run()
    if device.type != "cuda":
        return min(_seconds(run) for _ in range(repeats)) * 1e6
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(COPIES):
            run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / COPIES)
    return min(times)


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measured_rows(
    device: torch.device, dtype: torch.dtype, setup: Setup, repeats: int, quick: bool
) -> Iterator[Row]:
    """Every op of the lists, smallest first when `quick`."""

    name = str(dtype).removeprefix("torch.")

    def priced(op: str, dims: dict[str, int]) -> float:
        return float(price_rows([OpRow(op, name, tuple(dims.items()))], setup).latency_us[0])

    for m, n, k in GEMMS[: 3 if quick else None]:
        us = least_us(_linear(m, n, k, device, dtype), device, repeats)
        dims = {"m": m, "n": n, "k": k}
        yield Row("matmul", _text(dims), us, priced("matmul", dims))
    for shape in ATTENTIONS[: 1 if quick else None]:
        dims = dict(
            zip(("batch", "q_len", "heads", "kv_heads", "head_dim", "kv_len", "causal"), shape, strict=True)
        )
        us = least_us(_attention(dims, device, dtype), device, repeats)
        yield Row("attention", _text(dims), us, priced("attention", dims))
    for op, rows, cols in VECTORS[: 2 if quick else None]:
        us = least_us(_vector(op, rows, cols, device, dtype), device, repeats)
        yield Row(op, f"rows={rows} cols={cols}", us, priced(op, {"rows": rows, "cols": cols}))
    if not quick:
        yield Row("gpt2 step", _text(GPT2), least_us(_gpt2_step(device, dtype), device, repeats), 0.0)


def _linear(m: int, n: int, k: int, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    import torch

    a = torch.randn(m, k, device=device, dtype=dtype)
    weights = [torch.randn(n, k, device=device, dtype=dtype) for _ in range(COPIES)]
    turn = itertools.cycle(weights)
    return lambda: torch.nn.functional.linear(a, next(turn))


def _text(dims: dict[str, int]) -> str:
    return " ".join(f"{k}={v}" for k, v in dims.items())


def _attention(d: dict[str, int], device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    import torch

    def tensor(heads: int, length: int) -> torch.Tensor:
        return torch.randn(d["batch"], heads, length, d["head_dim"], device=device, dtype=dtype)

    q, k, v = (
        tensor(d["heads"], d["q_len"]),
        tensor(d["kv_heads"], d["kv_len"]),
        tensor(d["kv_heads"], d["kv_len"]),
    )
    causal = bool(d["causal"]) and d["q_len"] > 1
    grouped = d["heads"] != d["kv_heads"]
    return lambda: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=causal, enable_gqa=grouped
    )


def _vector(op: str, rows: int, cols: int, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    import torch

    x = torch.randn(rows, cols, device=device, dtype=dtype)
    functional = torch.nn.functional
    return {
        "layernorm": lambda: functional.layer_norm(x, (cols,)),
        "softmax": lambda: torch.softmax(x, -1),
        "gelu": lambda: functional.gelu(x),
        "add": lambda: x + x,
    }[op]


def _gpt2_step(device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """One decode step of a GPT-2 small sized stack, at a full context, cache in place."""
    import torch

    width, layers, heads, context = (GPT2[k] for k in ("width", "layers", "heads", "context"))
    functional = torch.nn.functional
    shapes = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
    weights = [[torch.randn(s, device=device, dtype=dtype) * 0.02 for s in shapes] for _ in range(layers)]
    cache = torch.randn(layers, 2, 1, heads, context, width // heads, device=device, dtype=dtype)
    x = torch.randn(1, 1, width, device=device, dtype=dtype)

    def step() -> torch.Tensor:
        h = x
        for (qkv, out, up, down), (k, v) in zip(weights, cache, strict=True):
            q = functional.linear(functional.layer_norm(h, (width,)), qkv)[..., :width]
            q = q.view(1, 1, heads, -1).transpose(1, 2)
            a = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 1, width)
            h = h + functional.linear(a, out)
            h = h + functional.linear(
                functional.gelu(functional.linear(functional.layer_norm(h, (width,)), up)), down
            )
        return h

    return step


def machine(device: torch.device) -> str:
    """Device, driver and versions, for the head of the table."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    return f"{name}; torch {torch.__version__}; CUDA {torch.version.cuda}; Python {platform.python_version()}"


def write_table(rows: list[Row], head: str, file: Path) -> None:
    """`# device and versions`, then the rows."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {head}\n")
        writer = csv.writer(stream)
        writer.writerow(["op", "dims", "measured_us", "predicted_us", "error"])
        writer.writerows(
            [r.op, r.dims, f"{r.measured_us:.3f}", f"{r.predicted_us:.3f}", f"{r.error:.3f}"] for r in rows
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", default="gpu/h100-sxm", help="the preset to compare with")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to test the harness")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few small rows")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU is available: --device cpu tests the harness", file=sys.stderr)
        return 2
    device = torch.device(args.device)
    setup = set_up(args.on)
    with torch.inference_mode():
        rows = list(measured_rows(device, getattr(torch, args.dtype), setup, args.repeats, args.quick))
    head = machine(device)
    print(head)
    for row in rows:
        beside = f"model {row.predicted_us:10.2f} us {row.error:+.1%}"
        print(f"{row.op:10s} {row.dims:72s} {row.measured_us:10.2f} us  {beside}")
    if args.out:
        write_table(rows, head, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
