"""Price a single op, or a table of ops, on one or several targets."""

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
    from tetrasim.flow.pricing import OpRow, Priced
    from tetrasim.flow.setup import Setup
    from tetrasim.sim.ops.work import Work

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

    setups = _setups(on or [], launch, _arguments.settings(setting or ()))
    if csv is not None:
        if explain:
            raise UserError("--explain is for one op", where="--explain", hint="name the op and its dims")
        if name is not None:
            raise UserError(
                f"'{name}' beside --csv", where="op", hint="the table names its ops: drop one of the two"
            )
        _price_table(csv, out, setups, json=json, force=force)
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
        _explain_one(row, setups, json)
        return
    _price_one(row, setups, json)


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


def _setups(
    on: list[str], launch: str | None, settings: dict[str, str | int | float | bool]
) -> tuple[Setup, ...]:
    from tetrasim.flow.request import check_targets
    from tetrasim.flow.setup import set_up_all

    check_targets(on)
    return set_up_all(on, settings if launch is None else {**settings, "launch": launch})


def _explain_one(row: OpRow, setups: tuple[Setup, ...], json: bool) -> None:
    from tetrasim.flow import pricing
    from tetrasim.flow.explain import explain_op
    from tetrasim.reports.explain import to_text, to_tree

    work = pricing.work_of_row(row)
    shape = " ".join(f"{dim}={size}" for dim, size in row.dims)
    found = tuple(
        explain_op(
            f"{row.op} {shape} {row.dtype} on {setup.preset}, alone", work, pricing.setup_of_row(row, setup)
        )
        for setup in setups
    )
    _options.out(json_text.dumps(to_tree(found), indent=1, allow_nan=False) if json else to_text(found))


def _price_table(file: Path, out: Path | None, setups: tuple[Setup, ...], *, json: bool, force: bool) -> None:
    from tetrasim.flow import pricing
    from tetrasim.reports.folder import check_file_free, write_file

    if out is not None:
        check_file_free(out, force)
    header, lines, rows = pricing.read_table(file)
    text = pricing.table_text(header, lines, pricing.priced_on(rows, setups))
    if out is not None:
        write_file(out, text, force)
    if json:
        found = [
            {name: _number(cell) if name in _NUMBERS else cell for name, cell in row.items()}
            for row in DictReader(StringIO(text))
        ]
        _options.out(json_text.dumps(found, indent=1, ensure_ascii=False))
    elif out is None:
        _options.out(text)


_NUMBERS = ("latency_us", "latency_low_us", "latency_high_us", "energy_uj")


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _price_one(row: OpRow, setups: tuple[Setup, ...], json: bool) -> None:
    from tetrasim.flow import pricing

    work = pricing.work_of_row(row)
    found = pricing.priced_on([row], setups)
    if json:
        trees = [_tree(row, work, priced) for priced in found]
        # One target gives an object, several a list of them.
        _options.out(json_text.dumps(trees[0] if len(trees) == 1 else trees, allow_nan=False))
        return
    _options.out("\n\n".join(_text(row, work, priced) for priced in found))


def _tree(row: OpRow, work: Work, priced: Priced) -> dict[str, object]:
    latency = priced.latencies[0]
    return {
        "op": row.op, "dtype": row.dtype, **dict(row.dims), "on": priced.preset,
        "macs": work.macs, "vector_ops": work.vector_ops, "bytes": work.nbytes,
        "latency_us": latency.value, "latency_low_us": latency.low, "latency_high_us": latency.high,
        "energy_uj": float(priced.prices.energy_uj[0]), "bound_by": priced.prices.bound_by[0],
        "basis": str(latency.basis), "source": latency.source,
    }  # fmt: skip


def _text(row: OpRow, work: Work, priced: Priced) -> str:
    from tetrasim.units import si, si_bytes

    def time(us: float) -> str:
        return si(us * 1e-6, "s").replace("us", "µs")

    latency = priced.latencies[0]
    energy_uj, seconds = float(priced.prices.energy_uj[0]), latency.value * 1e-6
    operations = 2 * work.macs + work.vector_ops
    shape = " ".join(f"{dim}={size}" for dim, size in row.dims)
    if latency.low is not None and latency.high is not None:
        evidence = f"{time(latency.low)} to {time(latency.high)}, {latency.basis}: {latency.source}"
    else:
        evidence = f"none, {latency.basis}: no measurement of this kind of op on this device is committed"
    rates = (operations / seconds, work.nbytes / seconds) if seconds else (0.0, 0.0)
    lines = (
        ("op", f"{row.op} {shape} {row.dtype} on {priced.preset}"),
        ("latency", time(latency.value)),
        ("range", evidence),
        ("energy", si(energy_uj * 1e-6, "J").replace("uJ", "µJ")),
        ("bound by", priced.prices.bound_by[0]),
        ("work", f"{si(operations, 'op')}, {si_bytes(work.nbytes)}, {work.arithmetic_intensity:.3g} op/B"),
        ("rate", f"{si(rates[0], 'op/s')}, {si(rates[1], 'B/s')}"),
    )
    return "\n".join(f"{label:<9} {text}" for label, text in lines)
