"""Price a single op, or a table of ops, on one target."""

from __future__ import annotations

import json as json_text
from csv import DictReader
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _arguments, _options
from tetrasim.errors import UserError

if TYPE_CHECKING:
    from tetrasim.flow.pricing import OpRow
    from tetrasim.flow.setup import Setup

app = _options.new_app()
_Dim = Annotated[int | None, typer.Option(show_default=False)]


@app.command()
def op(
    name: Annotated[
        str | None,
        typer.Argument(help="matmul, attention, softmax, layernorm, gelu, add, …", show_default=False),
    ] = None,
    on: _options.On = None,
    dtype: Annotated[str, typer.Option(help="float32, bf16, fp8, int8, …")] = "float16",
    m: _Dim = None,
    n: _Dim = None,
    k: _Dim = None,
    batch: _Dim = None,
    q_len: _Dim = None,
    heads: _Dim = None,
    kv_heads: _Dim = None,
    head_dim: _Dim = None,
    kv_len: _Dim = None,
    causal: Annotated[bool, typer.Option(help="Attention: query i sees keys up to i.")] = False,
    rows: _Dim = None,
    cols: _Dim = None,
    csv: Annotated[
        Path | None, typer.Option(help="A table of ops: columns op,dtype and the dims.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            "--output",
            help="Where the priced table goes (default: stdout).",
            show_default=False,
        ),
    ] = None,
    launch: Annotated[
        str | None, typer.Option(help="GPU: graph (default), stream or eager.", show_default=False)
    ] = None,
    setting: _options.Settings = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why: kernel, candidates, bytes, constants.")
    ] = False,
    json: _options.Json = False,
    force: _options.Force = False,
) -> None:
    """Price one op on a target, or with --csv every row of a table.

    matmul needs --m --n --k; attention --batch --q-len --heads --kv-heads --head-dim --kv-len; vector ops
    --rows --cols. A GPU op is priced as inside a replayed CUDA graph unless --launch says otherwise.
    """
    from tetrasim.flow import pricing

    setup = _setup(on or [], launch, _arguments.settings(setting or ()))
    if csv is not None:
        if explain:
            raise UserError("--explain is for one op", where="--explain", hint="name the op and its dims")
        if name is not None:
            raise UserError(
                f"'{name}' beside --csv", where="op", hint="the table names its ops: drop one of the two"
            )
        _price_table(csv, out, setup, json=json, force=force)
        return
    if name is None:
        raise UserError(
            "no op is named", hint=f"one of {', '.join(pricing.op_names()[:6])}, …, or --csv FILE"
        )
    given = {
        "m": m, "n": n, "k": k, "batch": batch, "q_len": q_len, "heads": heads, "kv_heads": kv_heads,
        "head_dim": head_dim, "kv_len": kv_len, "rows": rows, "cols": cols,
    }  # fmt: skip
    row = _row(name, dtype, given, causal)
    if explain:
        _explain_one(row, setup, json)
        return
    _price_one(row, setup, json)


def _row(name: str, dtype: str, given: dict[str, int | None], causal: bool) -> OpRow:
    from tetrasim.flow.pricing import ATTENTION_DIMS, OpRow, dims_of

    op = "matmul" if name.lower() == "gemm" else name.lower()
    wanted = dims_of(op)
    dims = {dim: size for dim, size in given.items() if size is not None}
    if wanted == ATTENTION_DIMS:
        dims = {"batch": 1, **dims, "causal": int(causal)}
        if "heads" in dims:
            dims.setdefault("kv_heads", dims["heads"])
    allowed = {*wanted, *(("batch",) if op == "matmul" else ())}
    for dim in dims:
        if dim not in allowed:
            flag = dim.replace("_", "-")
            raise UserError(
                f"'{op}' has no dim '{dim}'", where=f"--{flag}", hint=f"its dims are {', '.join(wanted)}"
            )
    for dim in wanted:
        if dim not in dims:
            raise UserError(
                f"'{op}' needs --{dim.replace('_', '-')}", hint=f"its dims are {', '.join(wanted)}"
            )
    return OpRow(op, dtype, tuple(dims.items()))


def _setup(on: list[str], launch: str | None, settings: dict[str, str | int | float | bool]) -> Setup:
    from tetrasim.flow.setup import set_up

    if len(on) != 1:
        raise UserError(
            "name exactly one target" if on else "no target is named",
            where="--on",
            hint="for example --on gpu/a100-sxm4-80gb",
        )
    if launch is not None:
        settings = {**settings, "launch": launch}
    return set_up(on[0], settings)


def _explain_one(row: OpRow, setup: Setup, json: bool) -> None:
    from tetrasim.flow import pricing
    from tetrasim.flow.explain import explain_op
    from tetrasim.reports.explain import to_text, to_tree

    work = pricing.work_of_row(row)
    shape = " ".join(f"{dim}={size}" for dim, size in row.dims)
    at = pricing.setup_of_row(row, setup)
    found = (explain_op(f"{row.op} {shape} {row.dtype} on {setup.preset}, alone", work, at),)
    _options.out(json_text.dumps(to_tree(found), indent=1, allow_nan=False) if json else to_text(found))


def _price_table(file: Path, out: Path | None, setup: Setup, *, json: bool, force: bool) -> None:
    from tetrasim.flow import pricing
    from tetrasim.reports.folder import check_file_free, write_file

    if out is not None:
        check_file_free(out, force)
    header, lines, rows = pricing.read_table(file)
    text = pricing.table_text(header, lines, pricing.price_rows(rows, setup))
    if out is not None:
        write_file(out, text, force)
    if json:
        found = [
            {**row, "latency_us": float(row["latency_us"]), "energy_uj": float(row["energy_uj"])}
            for row in DictReader(StringIO(text))
        ]
        _options.out(json_text.dumps(found, indent=1, ensure_ascii=False))
    elif out is None:
        _options.out(text)


def _price_one(row: OpRow, setup: Setup, json: bool) -> None:
    from tetrasim.flow import pricing
    from tetrasim.flow.explain import op_evidence
    from tetrasim.units import si, si_bytes

    work = pricing.work_of_row(row)
    prices = pricing.price_rows([row], setup)
    latency_us, energy_uj = float(prices.latency_us[0]), float(prices.energy_uj[0])
    evidence = op_evidence(pricing.setup_of_row(row, setup), work)
    if json:
        fields = {
            "op": row.op, "dtype": row.dtype, **dict(row.dims), "on": setup.preset,
            "macs": work.macs, "vector_ops": work.vector_ops, "bytes": work.nbytes,
            "latency_us": latency_us, "energy_uj": energy_uj, "bound_by": prices.bound_by[0],
            "evidence": evidence,
        }  # fmt: skip
        _options.out(json_text.dumps(fields, allow_nan=False))
        return
    operations = 2 * work.macs + work.vector_ops
    rate = operations / latency_us * 1e6 if latency_us else 0.0
    shape = " ".join(f"{dim}={size}" for dim, size in row.dims)
    lines = (
        ("op", f"{row.op} {shape} {row.dtype} on {setup.preset}"),
        ("latency", si(latency_us * 1e-6, "s").replace("us", "µs")),
        ("evidence", evidence),
        ("energy", si(energy_uj * 1e-6, "J").replace("uJ", "µJ")),
        ("bound by", prices.bound_by[0]),
        ("work", f"{si(operations, 'op')}, {si_bytes(work.nbytes)}, {work.arithmetic_intensity:.3g} op/B"),
        ("rate", f"{si(rate, 'op/s')}, {si(work.nbytes / latency_us * 1e6 if latency_us else 0.0, 'B/s')}"),
    )
    _options.out("\n".join(f"{label:<9} {text}" for label, text in lines))
