"""The cost of single ops and of tables of them, from their dims alone.

A table is CSV with the columns `op,dtype` and the op's dims: matmul `m,n,k` (and `batch`); attention
`batch,q_len,heads,kv_heads,head_dim,kv_len,causal`; vector ops `rows,cols`. Rows of one dtype are priced in
one vectorised call; equal rows are built once.
"""

from __future__ import annotations

import csv
import gc
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.files.read import cells_of, read_text
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.common.target import Prices
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.metric import ErrorRange, Metric
from tetrasim.sim.ops.single import attention_work, matmul_work, vector_op_names, vector_work
from tetrasim.sim.ops.work import Gemm, Operand, Work, WorkKind
from tetrasim.sim.precision import BFLOAT16, FLOAT8, FLOAT16, FLOAT32, INT4, INT8, Format

if TYPE_CHECKING:
    from tetrasim.flow.setup import Setup
    from tetrasim.hw_targets.common.target import Config

MAX_TABLE_BYTES = 1 << 28
RESULT_COLUMNS = ("latency_us", "latency_low_us", "latency_high_us", "energy_uj", "bound_by", "basis")
MATMUL_DIMS = ("m", "n", "k")
ATTENTION_DIMS = ("batch", "q_len", "heads", "kv_heads", "head_dim", "kv_len", "causal")
VECTOR_DIMS = ("rows", "cols")

# Everyday spelling -> (the name of a configuration's `precision`, the format of the operands).
_DTYPES: dict[str, tuple[str, Format]] = {
    **dict.fromkeys(("float32", "fp32", "f32"), ("float32", FLOAT32)),
    **dict.fromkeys(("tfloat32", "tf32"), ("tfloat32", FLOAT32)),
    **dict.fromkeys(("float16", "fp16", "f16", "half"), ("float16", FLOAT16)),
    **dict.fromkeys(("bfloat16", "bf16"), ("bfloat16", BFLOAT16)),
    **dict.fromkeys(("float8", "fp8", "e4m3", "fp8_e4m3"), ("float8", FLOAT8)),
    **dict.fromkeys(("int8", "i8"), ("int8", INT8)),
    **dict.fromkeys(("int4", "i4"), ("int4", INT4)),
}


@dataclass(frozen=True, slots=True)
class OpRow:
    """One op to price: everyday name, dtype as spelled, dims by name (`causal` is 0 or 1)."""

    op: str
    dtype: str
    dims: tuple[tuple[str, int], ...]
    where: str = ""


def dtype_names() -> tuple[str, ...]:
    """Every accepted spelling."""
    return tuple(_DTYPES)


def precision_name(dtype: str) -> str:
    """What configurations call a dtype: `bf16` -> `bfloat16`; an unknown name is left for them to refuse."""
    return _DTYPES[dtype.lower()][0] if dtype.lower() in _DTYPES else dtype


def op_names() -> tuple[str, ...]:
    """Every op that can be priced alone."""
    return ("matmul", "attention", *vector_op_names())


@cache
def dims_of(op: str) -> tuple[str, ...]:
    """The dims that `op` needs.

    Raises:
        UserError: unknown op.
    """
    if op in ("matmul", "gemm"):
        return MATMUL_DIMS
    if op == "attention":
        return ATTENTION_DIMS
    if op in vector_op_names():
        return VECTOR_DIMS
    raise UserError(f"unknown op '{op}'", hint=nearest(op, op_names()))


def work_of_row(row: OpRow) -> Work:
    """The work of one row.

    Raises:
        UserError: unknown op or dtype, a missing or bad dim; with the row's place.
    """
    try:
        return _build(row.op, row.dtype, row.dims)
    except UserError as mistake:
        raise UserError(mistake.what, where=row.where or mistake.where, hint=mistake.hint) from None


@lru_cache(maxsize=1 << 16)
def _build(op: str, dtype: str, dims: tuple[tuple[str, int], ...]) -> Work:
    fmt = _dtype(dtype)[1]
    named = dict(dims)
    wanted = dims_of(op)
    for name in wanted:
        if name not in named:
            raise UserError(f"'{op}' needs '{name}'", hint=f"its dims are {', '.join(wanted)}")
    if wanted == MATMUL_DIMS:
        return _matmul(named["m"], named["n"], named["k"], fmt, named.get("batch", 1))
    if wanted == ATTENTION_DIMS:
        batch, q_len, heads, kv_heads, head_dim, kv_len, causal = (named[d] for d in ATTENTION_DIMS)
        return attention_work(batch, q_len, heads, kv_heads, head_dim, kv_len, bool(causal), fmt)
    return vector_work(op, named["rows"], named["cols"], fmt)


def _matmul(m: int, n: int, k: int, fmt: Format, batch: int) -> Work:
    """`matmul_work` without the detour over a graph node, which costs most of the time of a large table."""
    if min(m, n, k, batch) < 1:
        return matmul_work(m, n, k, fmt, batch)  # says what is wrong
    a = Operand(batch * m * k, fmt.bits, fmt.kind, Role.ACTIVATION, fills=("a",))
    b = Operand(batch * k * n, fmt.bits, fmt.kind, Role.WEIGHT, fills=("b",))
    c = Operand(batch * m * n, fmt.bits, fmt.kind, Role.ACTIVATION)
    return Work("MatMul", WorkKind.GEMM, (a, b), (c,), gemm=Gemm(batch, m, n, k))


def _dtype(name: str) -> tuple[str, Format]:
    if name.lower() not in _DTYPES:
        raise UserError(f"unknown dtype '{name}'", hint=nearest(name.lower(), _DTYPES))
    return _DTYPES[name.lower()]


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A table makes hundreds of thousands of small objects that live to its end: looking for garbage among
    them takes longer than pricing them."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@_collector_paused()
def price_rows(rows: Sequence[OpRow], setup: Setup) -> Prices:
    """Prices in the order of `rows`; each dtype is priced with the target set to that precision.

    Raises:
        UserError: a row that cannot be built, or a dtype that the target does not have.
    """
    works = [work_of_row(row) for row in rows]
    latency, energy = np.zeros(len(rows)), np.zeros(len(rows))
    bound = [""] * len(rows)
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(_dtype(row.dtype)[0], []).append(i)
    for precision, members in groups.items():
        config = _at_precision(setup, precision)
        prices = setup.target.price([works[i] for i in members], config)
        latency[members], energy[members] = prices.latency_us, prices.energy_uj
        for i, name in zip(members, prices.bound_by, strict=True):
            bound[i] = name
    return Prices(latency, energy, tuple(bound))


@dataclass(frozen=True, eq=False)
class Priced:
    """Rows priced on one target: costs, and the latencies with their ranges."""

    preset: str
    prices: Prices
    latencies: tuple[Metric, ...]


def priced_on(rows: Sequence[OpRow], setups: Sequence[Setup]) -> tuple[Priced, ...]:
    """The rows on every target, with the range of each latency.

    Raises:
        UserError: as `price_rows`.
    """
    out = []
    for setup in setups:
        prices = price_rows(rows, setup)
        out.append(Priced(setup.preset, prices, tuple(latency_metrics(rows, setup, prices))))
    return tuple(out)


def latency_metrics(rows: Sequence[OpRow], setup: Setup, prices: Prices) -> list[Metric]:
    """The latencies with the range of each row's class of ops; without evidence there is no range."""
    known: dict[tuple[Work, str], ErrorRange | None] = {}
    out = []
    for row, latency_us in zip(rows, prices.latency_us.tolist(), strict=True):
        work, precision = work_of_row(row), _dtype(row.dtype)[0]
        if (work, precision) not in known:
            ranges = setup.target.op_range
            known[work, precision] = ranges(work, _at_precision(setup, precision)) if ranges else None
        found = known[work, precision]
        plain = Metric(latency_us, "us", basis=setup.target.time_basis)
        out.append(plain if found is None else found.metric(latency_us, "us"))
    return out


def setup_of_row(row: OpRow, setup: Setup) -> Setup:
    """The setup at the row's precision, as it is priced."""
    return replace(setup, config=_at_precision(setup, _dtype(row.dtype)[0]))


def _at_precision(setup: Setup, precision: str) -> Config:
    """The configuration with its `precision` set, where it has one and knows this value."""
    default = getattr(setup.config, "precision", None)
    if not isinstance(default, str):
        return setup.config
    try:
        return with_overrides(setup.config, {"precision": precision})
    except UserError:
        raise UserError(
            f"{setup.preset} does not compute in '{precision}'",
            where="dtype",
            hint=f"its default is {default}",
        ) from None


@_collector_paused()
def read_table(file: Path) -> tuple[list[str], list[list[str]], list[OpRow]]:
    """Header, raw rows and parsed rows of a CSV of ops.

    Raises:
        UserError: unreadable file, a missing column, a value that is not a whole number; with the line.
    """
    header, lines = cells_of(read_text(file, MAX_TABLE_BYTES), str(file))
    for needed in ("op", "dtype"):
        if needed not in header:
            raise UserError(f"there is no column '{needed}'", where=f"{file}:1", hint=nearest(needed, header))
    if not lines:
        raise UserError("the table has no row", where=str(file), hint="a line per op under the column names")
    column = {name: i for i, name in enumerate(header)}
    rows = [_parse(line, column, f"{file}:{i}") for i, line in lines]
    return header, [line for _, line in lines], rows


def _parse(line: Sequence[str], column: Mapping[str, int], where: str) -> OpRow:
    def cell(name: str) -> str:
        at = column.get(name, len(line))
        return line[at].strip() if at < len(line) else ""

    op = cell("op").lower()
    try:
        wanted = dims_of(op)
    except UserError as mistake:
        raise UserError(mistake.what, where=where, hint=mistake.hint) from None
    dims = [(name, _whole(name, cell(name), where)) for name in wanted]
    if wanted == MATMUL_DIMS and cell("batch"):
        dims.append(("batch", _whole("batch", cell("batch"), where)))
    return OpRow("matmul" if op == "gemm" else op, cell("dtype"), tuple(dims), where)


_TRUTH: dict[str, int] = {"true": 1, "yes": 1, "false": 0, "no": 0}


def _whole(name: str, text: str, where: str) -> int:
    if name == "causal" and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if text.isdecimal() and len(text) < 16:
        return int(text)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (0 <= number <= 1e15 and number.is_integer()):  # NaN and infinity included
        raise UserError(
            f"'{name}' is '{text}', not a whole number", where=where, hint=f"give {name} as digits"
        )
    return int(number)


def _decimal(value: float) -> str:
    """Six significant digits, never with an exponent."""
    text = f"{value:.6g}"
    return text if "e" not in text else f"{value:.0f}" if value >= 1 else f"{value:.12f}"


def table_text(header: Sequence[str], lines: Sequence[Sequence[str]], found: Sequence[Priced]) -> str:
    """The rows as they were, with the result columns appended; for several targets once each, with `on`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    where = ("on",) if len(found) > 1 else ()
    kept = [i for i, name in enumerate(header) if name not in (*where, *RESULT_COLUMNS)]
    writer.writerow([*(header[i] for i in kept), *where, *RESULT_COLUMNS])
    for target in found:
        prices, on = target.prices, (target.preset,) if where else ()
        results = zip(lines, target.latencies, prices.energy_uj.tolist(), prices.bound_by, strict=True)
        for line, latency, energy, bound in results:
            padded = [*line, *([""] * (len(header) - len(line)))]
            ends = ("" if end is None else _decimal(end) for end in (latency.low, latency.high))
            cells = (_decimal(latency.value), *ends, _decimal(energy), bound, latency.basis)
            writer.writerow([*(padded[i] for i in kept), *on, *cells])
    return stream.getvalue()
