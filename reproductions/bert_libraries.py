"""FasterTransformer's BERT table: its kernels and its host as mapping options, ours beside the guide's times.

    python reproductions/bert_libraries.py [--table FILE] [--host] [--ranges]

`--table`: another file of the same columns. `--host`: what the host's part contributes, and how far the
times are off without it. `--ranges`: what `errors.yaml` says of float16 on T4 and V100, which have no table
of kernels. Nothing here is fitted to these rows (the kernels' fraction of the 16-bit peak on
T4 and V100 was, to those of batch 8: bert_fractions.py):
 - Kernels (Bert.cc, FusedAttentionLayer.cu, UnfusedAttentionLayer.cc, TensorRT's fused attention): biases,
   residuals and norms fused, products not; q, k and v as three products; products tuned for the padded
   size (bert_gemm). Attention is fused in float16 up to 384 tokens on Turing and newer (the guide);
   elsewhere the effective mode pads again for it.
 - The host launches a kernel in 2.62 us (gpu-benches, in the presets). A cuBLASLt product takes 5 us, and
   10 us when its algorithm is looked up at every call (NVIDIA/raft, pull request 1736), as the effective
   mode does in float16: the sizes that it was tuned for are the padded ones (cublasMMWrapper.cc). It also
   waits for the number of tokens.
 - The guide's three hosts (EPYC 7742, Xeon E5-2698 v4, Xeon E5-2670) are of different age. Plain
   TorchScript is bound by the host in its small float16 runs: the shortest such time on each machine over
   that on A100's is how much slower its host is.
 - INT8-v1 multiplies in 8 bits and keeps 16-bit activations, which are quantised on the way; its
   algorithms are never looked up anew (cublasINT8MMWrapper.cc). INT8-v2 keeps activations in 8 bits: no
   mapping here.
Times are those of the encoder: embeddings and pooler of our graph are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from gpu_models import ModelRow, loaded, rows_of, summary

from tetrasim.flow.phases import lowered_phases
from tetrasim.flow.setup import set_up
from tetrasim.hw_targets.gpu.fit.ranges import MODEL_PRESETS, Tree, range_of
from tetrasim.sim.engine.static import run_static

Settings = dict[str, str | float | bool]
TABLE = Path(__file__).parents[1] / "tests" / "validation" / "data" / "gpu" / "fastertransformer_bert.csv"
HALF_OF_PADDED = 0.5  # mean length of the effective mode's table
NO_FUSED_ATTENTION = ("v100",)  # the guide: the fused kernel requires Turing or newer
LONGEST_FUSED = 384
PRODUCT_CALL_S, SEARCH_S = 5e-6, 5e-6  # NVIDIA/raft, pull request 1736
SYNC_S = 10e-6  # a small copy to the host and waking it up: assumed (libfabric's tables show 7 to 15 us)
REFERENCE = "a100-sxm4-80gb"  # the machine whose host the published launch costs are taken for


@dataclass(frozen=True)
class Cell:
    """One row of a table."""

    preset: str
    framework: str
    precision: str
    impl: str
    batch: int
    seq: int
    latency_ms: float


def cells(file: Path = TABLE) -> list[Cell]:
    """The rows of a table."""
    return [
        Cell(
            row["preset"],
            row["framework"],
            row["precision"],
            row["impl"],
            int(row["batch"]),
            int(row["seq"]),
            float(row["latency_ms"]),
        )
        for row in rows_of(file)
    ]


@cache
def framework_ms(preset: str, impl: str = "TorchScript") -> float:
    """A framework's shortest float16 run on the machine with this GPU: what its host takes for one pass."""
    return min(c.latency_ms for c in cells() if (c.preset, c.impl) == (preset, impl))


def host_settings(slower: float, launch_s: float = 2.62e-6) -> Settings:
    """What the host costs, `slower` than the host that the published numbers come from."""
    return {
        "launch": "stream",
        "host.stream_launch_s": launch_s * slower,
        "host.stream_product_s": PRODUCT_CALL_S * slower,
        "host.search_s": SEARCH_S * slower,
        "host.sync_s": SYNC_S * slower,
    }


def fused_attention(preset: str, precision: str, seq: int) -> bool:
    """Whether FasterTransformer has one kernel for it."""
    return (
        precision in ("float16", "int8")
        and seq <= LONGEST_FUSED
        and not preset.startswith(NO_FUSED_ATTENTION)
    )


def ft_settings(preset: str, precision: str, seq: int, packed: bool, fill: float, slower: float) -> Settings:
    """FasterTransformer's kernels and host as mapping options; `packed`: its effective mode."""
    fused = fused_attention(preset, precision, seq)
    # cuBLAS itself (float32) chooses well without a table; only cuBLASLt is asked anew for untuned sizes
    chosen: Settings = {
        "precision": precision,
        "fusion": "chains",
        "attention": "flash2" if fused else "unfused",
    }
    chosen |= host_settings(slower) | {"tuned_products": precision != "float16" or not packed}
    if packed and fill < 1.0:
        chosen |= {"fill": fill, "lengths": "equal", "packing": "batch" if fused else "products"}
    return chosen


def encoder_ms(name: str, preset: str, batch: int, seq: int, settings: Settings) -> float:
    """Time from the end of the embeddings' norm to the end of the last layer's."""
    model, workload = loaded(name, batch, seq)
    setup = set_up(f"gpu/{preset}", settings)
    _, family, contexts = lowered_phases(model, setup, workload)[0]
    graph = family.at(contexts[0])
    program = setup.target.lower(graph, setup.config)
    end_ps = run_static(program).end_ps
    norms = [i for i, node in enumerate(graph.nodes) if node.op == "LayerNormalization"]
    first, last = (int(end_ps[program.node == n].max()) for n in (norms[0], norms[-1]))
    return (last - first) * 1e-9


def fastertransformer(file: Path = TABLE, host: bool = True) -> Iterator[ModelRow]:
    """Every FasterTransformer row. `host` False: the presets' launches, no searches, no waits."""
    for cell in cells(file):
        if cell.impl not in ("FT", "EFF-FT"):
            continue
        slower = framework_ms(cell.preset) / framework_ms(REFERENCE)
        packed = cell.impl == "EFF-FT"
        settings = ft_settings(cell.preset, cell.precision, cell.seq, packed, HALF_OF_PADDED, slower)
        if not host:
            settings = {key: value for key, value in settings.items() if not key.startswith("host.")}
        ours = encoder_ms("bert-base", cell.preset, cell.batch, cell.seq, settings)
        source = f"{cell.framework} {cell.impl} {cell.precision}"
        yield ModelRow(source, cell.preset, f"{cell.batch}x{cell.seq}", cell.latency_ms, ours)


def ranges(rows: Sequence[ModelRow]) -> Tree:
    """The ranges of float16 on devices without a table of kernels."""
    found: Tree = {}
    for preset in MODEL_PRESETS:
        ratio = [
            row.measured_ms / row.predicted_ms
            for row in rows
            if row.preset == preset and row.source in ("PyTorch FT float16", "TensorFlow FT float16")
        ]
        by = "reproductions/bert_libraries.py"
        one = range_of(np.array(ratio), "BERT runs of FasterTransformer, float16", by)
        found[preset] = {"half": {"prefill": one, "forward": one}}
    return found


def by_device(rows: Sequence[ModelRow]) -> str:
    """Mean absolute error and bias per device and number format."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        groups[row.preset, row.source.split()[-1]].append(row.error)
    lines = []
    for (preset, precision), e in sorted(groups.items()):
        error, bias = np.mean(np.abs(e)), np.mean(e)
        lines.append(
            f"gpu/{preset:16s} {precision:10s} rows {len(e):3d}  error {error:6.1%}  bias {bias:+6.1%}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, default=TABLE, help="another table of the same columns")
    parser.add_argument("--host", action="store_true", help="compare with a host that costs nothing more")
    parser.add_argument("--ranges", action="store_true", help="the error ranges of T4 and V100 in float16")
    args = parser.parse_args()
    rows = list(fastertransformer(args.table))
    if args.ranges:
        print(yaml.safe_dump(ranges(rows), sort_keys=False))
        return
    for row in rows:
        times = f"{row.measured_ms:8.2f} ms, ours {row.predicted_ms:8.2f} ms"
        print(f"{row.source:28s} gpu/{row.preset:16s} {row.case:8s} {times} {row.error:+.1%}")
    print(summary(rows))
    print(by_device(rows))
    if args.host:
        for preset in dict.fromkeys(row.preset for row in rows):
            slower = framework_ms(preset) / framework_ms(REFERENCE)
            print(f"gpu/{preset}: host {slower:.2f} times as slow as the reference's")
        print("without the host's part:")
        print(by_device(list(fastertransformer(args.table, host=False))))


if __name__ == "__main__":
    main()
