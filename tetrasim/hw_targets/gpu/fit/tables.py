"""The measured tables of the GPU fit: which file feeds which parameters, and the part that ships."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.gpu.config import Launch
from tetrasim.hw_targets.gpu.fit.search import Bounds
from tetrasim.hw_targets.gpu.fit.start import (
    ATTENTION_BOUNDS,
    DECODE_BOUNDS,
    EAGER_GEMM_BOUNDS,
    FLOAT8_BOUNDS,
    GEMM_BOUNDS,
    LIMITED_GEMM_BOUNDS,
    PREFILL_BOUNDS,
    VECTOR_BOUNDS,
)
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels import gemm, vector
from tetrasim.hw_targets.gpu.measurements import Measured, attentions, gemms, read_columns, vectors

SHIPPED_ROWS = 260  # per table; the tables with the widest range of shapes ship more
MORE_ROWS = {"gemm half": 900, "gemm float32": 430, "linear half": 300}

# Tables that no fit uses: they ship as rows to validate with (unfitted.py).
UNFITTED = ("vidur_llm_linear_fp16.csv", "llmcompass_ops_fp16.csv", "misc_published_points.csv")
AIC = "ai-dynamo/aiconfigurator @ 095f58a51c4c, Apache-2.0"
NEUSIGHT = "sitar-lab/NeuSight @ 6945927d9afc, MIT"


@dataclass(frozen=True)
class Table:
    """`kind` and `part` name the parameters (gemm: a format; attention: a kernel); `device` filters rows;
    `inherits`: a preset whose fit this one starts from."""

    preset: str
    kind: str
    part: str
    label: str
    file: str
    bounds: Bounds
    source: str
    device: str = ""
    seeds: int = 1  # restarts, where the loss has several valleys
    inherits: str = ""


def _aic_gemm(preset: str, part: str, file: str, inherits: str = "") -> Table:
    bounds = FLOAT8_BOUNDS if part == "float8" else GEMM_BOUNDS
    return Table(preset, "gemm", part, f"gemm {part}", f"aic_gemm_{file}", bounds, AIC, inherits=inherits)


def _aic_attention(preset: str, part: str, file: str, bounds: Bounds, inherits: str = "") -> Table:
    return Table(preset, "attention", part, part, f"aic_attn_{file}", bounds, AIC, inherits=inherits)


def _neusight(preset: str, device: str) -> Table:
    file, label = "neusight_matmul_fp32", "gemm float32"
    sustained = preset in ("a100-sxm4-80gb", "h100-sxm")
    bounds = EAGER_GEMM_BOUNDS if sustained else LIMITED_GEMM_BOUNDS
    return Table(preset, "gemm", "float32", label, file, bounds, NEUSIGHT, device, seeds=3)


def _vector(preset: str, device: str) -> Table:
    bounds, file = VECTOR_BOUNDS, "neusight_vector_fp32"
    return Table(preset, "vector", "all", "vector", file, bounds, NEUSIGHT, device, seeds=5)


TABLES = (
    _aic_gemm("a100-sxm4-80gb", "half", "a100_sxm80_bfloat16"),
    _aic_gemm("h100-sxm", "half", "h100_sxm_bfloat16"),
    _aic_gemm("h200-sxm", "half", "h200_sxm_bfloat16", inherits="h100-sxm"),
    _aic_gemm("h100-sxm", "float8", "h100_sxm_fp8"),
    _neusight("t4", "Tesla T4"),
    _neusight("v100-pcie-32gb", "Tesla V100-PCIE-32GB"),
    _neusight("a100-pcie-40gb", "NVIDIA A100-PCIE-40GB"),
    _neusight("a100-sxm4-80gb", "NVIDIA A100 80GB PCIe"),
    _neusight("l4", "NVIDIA L4"),
    _neusight("h100-sxm", "NVIDIA H100 80GB HBM3"),
    _aic_attention("a100-sxm4-80gb", "decode", "generation_a100_sxm80", DECODE_BOUNDS),
    _aic_attention("h100-sxm", "decode", "generation_h100_sxm", DECODE_BOUNDS),
    _aic_attention("h200-sxm", "decode", "generation_h200_sxm", DECODE_BOUNDS, inherits="h100-sxm"),
    _aic_attention("a100-sxm4-80gb", "prefill", "context_a100_sxm80", PREFILL_BOUNDS),
    _aic_attention("h100-sxm", "prefill", "context_h100_sxm", PREFILL_BOUNDS),
    _aic_attention("h200-sxm", "prefill", "context_h200_sxm", PREFILL_BOUNDS, inherits="h100-sxm"),
    _aic_attention("h100-sxm", "encoder", "encoder_h100_sxm", ATTENTION_BOUNDS),
    _aic_attention("h200-sxm", "encoder", "encoder_h200_sxm", ATTENTION_BOUNDS),
    _vector("t4", "Tesla T4"),
    _vector("v100-pcie-32gb", "Tesla V100-PCIE-32GB"),
    _vector("a100-pcie-40gb", "NVIDIA A100-PCIE-40GB"),
    _vector("a100-sxm4-80gb", "NVIDIA A100 80GB PCIe"),
    _vector("l4", "NVIDIA L4"),
)


def check_tables(folder: Path) -> None:
    """Whether all tables are there.

    Raises:
        UserError: no folder, or the first files that it lacks.
    """
    wanted = sorted({*(f"{t.file}.csv" for t in TABLES), *UNFITTED})
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(wanted)} measured tables are not there: {', '.join(missing[:3])}"
            + (", …" if len(missing) > 3 else ""),
            where=str(folder),
            hint="give the folder of the CSV tables; hw_targets/gpu/fit/tables.py says where each comes from",
        )


def load_table(table: Table, folder: Path) -> Measured:
    """The rows of a table as the model takes them."""
    columns = read_columns(folder / f"{table.file}.csv")
    if table.device:
        keep = [i for i, name in enumerate(columns["device"]) if name == table.device]
        columns = {name: [column[i] for i in keep] for name, column in columns.items()}
    if table.source == AIC and table.kind == "gemm":
        return gemms(table.preset, table.label, table.part, columns)
    if table.kind == "gemm":
        return _neusight_gemms(table, columns)
    if table.kind == "vector":
        return vectors(table.preset, table.label, {**columns, "rows": columns["B"], "cols": columns["H"]})
    return _attentions(table, columns)


def _neusight_gemms(table: Table, columns: dict[str, list[str]]) -> Measured:
    """NeuSight names the output M x K and the reduction N; B multiplies the rows of a linear layer."""
    linear = [op == "linear" for op in columns["op"]]
    batch = [int(b or 1) for b in columns["B"]]
    rows = [b * int(m) if lin else int(m) for b, m, lin in zip(batch, columns["M"], linear, strict=True)]
    named = {
        "batch": [str(1 if lin else b) for b, lin in zip(batch, linear, strict=True)],
        "m": [str(m) for m in rows],
        "n": columns["K"],
        "k": columns["N"],
        "constant_b": [str(int(lin)) for lin in linear],
        "latency_us": columns["latency_us"],
    }
    return gemms(table.preset, table.label, "float32", named, Launch.EAGER)


def _attentions(table: Table, columns: dict[str, list[str]]) -> Measured:
    if "seq" in columns:
        columns = {**columns, "q_len": columns["seq"], "kv_len": columns["seq"], "kv_heads": columns["heads"]}
    causal = ["0" if table.part == "encoder" else "1"] * len(columns["batch"])
    measured = attentions(table.preset, table.label, {**columns, "causal": causal})
    keep = np.ones(len(causal), np.bool_)
    assert isinstance(measured.rows, att.AttentionRows)
    q_len, heads, kv_heads = measured.rows.shape[:, 1:4].T
    if table.part == "prefill":
        keep = q_len >= 256  # below, the rows measure the library's bookkeeping
    if table.part == "decode" and table.preset.startswith("a100"):
        keep = heads > kv_heads  # flash-attention 2's paged path never splits ungrouped heads; ours does
    return measured.take(np.flatnonzero(keep))


def ship(sets: list[Measured], folder: Path, more_sources: str) -> None:
    """Write a sample of the rows that no fit has seen, for `tetrasim validate gpu` and the tests.
    `more_sources`: of the tables that are not in `TABLES`."""
    folder.mkdir(exist_ok=True)
    lines: dict[str, list[list[str]]] = {"gemm": [], "attention": [], "vector": []}
    for measured in sets:
        keep = np.random.default_rng(3).permutation(len(measured.latency_us))[
            : MORE_ROWS.get(measured.label, SHIPPED_ROWS)
        ]
        kind, rows = _lines(measured.take(np.sort(keep)))
        lines[kind].extend(rows)
    heads = {
        "gemm": (
            f"{AIC}; {NEUSIGHT}; {more_sources}",
            "preset,label,launch,batch,m,n,k,constant_b,latency_us,power_w",
        ),
        "attention": (AIC, f"preset,label,{','.join(n for n in att.SHAPE if n != 'v_head_dim')},latency_us"),
        "vector": (NEUSIGHT, "preset,label,launch,slots,bytes,reduced_rows,latency_us"),
    }
    for kind, (source, header) in heads.items():
        with (folder / f"{kind}.csv").open("w", encoding="utf-8", newline="") as stream:
            stream.write(f"# rows left out of the fit; source: {source}\n{header}\n")
            csv.writer(stream, lineterminator="\n").writerows(lines[kind])


def _lines(measured: Measured) -> tuple[str, list[list[str]]]:
    head = [measured.preset, measured.label]
    rows, out = measured.rows, []
    for i, us in enumerate(measured.latency_us):
        time = f"{us:g}"
        if isinstance(rows, gemm.GemmRows):
            power = "" if measured.power_w is None else f"{measured.power_w[i]:g}"
            shape = [str(x) for x in rows.shape[i]]
            out.append([*head, measured.launch.value, *shape, str(int(rows.constant_b[i])), time, power])
        elif isinstance(rows, att.AttentionRows):
            shape = [str(x) for j, x in enumerate(rows.shape[i]) if j != 5]  # one head dim
            out.append([*head, *shape, "0", time])  # the tables have no windows
        else:
            assert isinstance(rows, vector.VectorRows)
            numbers = (rows.slots[i], rows.bytes[i], rows.reduced_rows[i])
            out.append([*head, measured.launch.value, *(f"{x:.0f}" for x in numbers), time])
    kinds = {gemm.GemmRows: "gemm", att.AttentionRows: "attention", vector.VectorRows: "vector"}
    return kinds[type(rows)], out
