"""Where matrices live and the instruction lists that multiply by them.

Weights: output column j is a run of consecutive values in one bank; columns are dealt out over channels and
banks so that an all-bank MAC works on one column per bank, and columns follow each other without gaps in the
2 KB rows (row hits maximised). Inputs wider than the global buffer are chunked, the host adds partial sums
(PIM-GPT, arXiv 2310.09385, section on mapping).

K: one token's key vector, all heads concatenated, fills rows of one bank; tokens are dealt out over channels
and banks. V: one value column fills rows of one bank, with space reserved for coming tokens; heads are dealt
out over channels, each with its own buffer.

HBM-PIM: no adder tree. A unit keeps `outputs_per_unit` accumulators of 16 lanes; inputs come in tiles of
128 values through the register file; lanes are added by the host.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tetrasim.hw_targets.common.dram.program import Close, Command, Instruction, Loop, Row, Wait
from tetrasim.hw_targets.pim.config import Dialect, PimConfig
from tetrasim.hw_targets.pim.steps import StateWrite, Step, ceil_div


@dataclass(frozen=True)
class Layout:
    """Geometry of a system: derived from the configuration and its DRAM device."""

    dialect: Dialect
    channels: int
    units: int
    lanes: int
    inputs: int
    outputs_per_unit: int
    row_accesses: int  # column accesses per row
    row_bytes: int
    burst_bytes: int
    element_bytes: int
    bias_write: bool
    result_wait: int

    @property
    def group(self) -> int:
        """Outputs that one channel computes at once."""
        return self.units * self.outputs_per_unit


def layout_of(config: PimConfig, row_bytes: int, burst_bytes: int) -> Layout:
    """The geometry of `config` on a device with these row and burst sizes."""
    units = config.units
    return Layout(
        config.dialect, config.total_channels, units.per_channel, units.lanes, units.inputs,
        units.outputs_per_unit, row_bytes // burst_bytes, row_bytes, burst_bytes, config.element_bytes,
        units.bias_write, units.result_wait_cycles,
    )  # fmt: skip


def weights_gemv(k: int, n: int, vectors: int, on: Layout) -> Step:
    """`vectors` products with one resident [k, n] matrix."""
    total = ceil_div(n, on.group)
    groups = ceil_div(total, on.channels)
    tiles = ceil_div(k, on.inputs)
    each = ceil_div(tiles, splits_of(k, n, on))  # input tiles of one channel
    body = _gemv(min(k, each * on.inputs), groups, on)
    return Step(
        "gemv",
        (Loop(vectors, body, row_step=0, restore_row=True), Close()) if vectors > 1 else body,
        total * tiles,
        groups * each * on.channels,
        macs=k * n * vectors,
    )


def splits_of(k: int, n: int, on: Layout) -> int:
    """Channels that share one output group, each with its part of the input tiles: HBM-PIM computes so many
    outputs at once that a narrow matrix would leave most channels idle."""
    if on.dialect is Dialect.AIM:
        return 1
    wanted = min(on.channels // ceil_div(n, on.group), ceil_div(k, on.inputs))
    return max(1, wanted)


def batched_gemv(matrices: int, k: int, n: int, repeats: int, on: Layout) -> Step:
    """`repeats` vectors for each of `matrices` resident [k, n] matrices, dealt out over the channels."""
    per_matrix = ceil_div(n, on.group)
    total = matrices * per_matrix
    groups = ceil_div(total, on.channels)
    whole, rest = divmod(groups, per_matrix)
    body: list[Instruction] = []
    for count, size in ((whole, per_matrix), (1 if rest else 0, rest)):
        if count:
            body.append(Loop(count, _gemv(k, size, on, packed=False)))
    return Step(
        "gemv",
        (Loop(repeats, tuple(body)),) if repeats > 1 else tuple(body),
        total,
        groups * on.channels,
        macs=matrices * k * n * repeats,
    )


def key_gemv(kv_heads: int, head_dim: int, tokens: int, repeats: int, on: Layout) -> Step:
    """q K^T for all heads against `tokens` keys, `repeats` times (grouped queries)."""
    if on.dialect is Dialect.HBM:
        return batched_gemv(kv_heads, head_dim, tokens, repeats, on)
    total = ceil_div(tokens, on.units)
    groups = ceil_div(total, on.channels)
    accesses = ceil_div(head_dim, on.lanes)
    per_chunk = max(1, on.inputs // (accesses * on.lanes))
    body: list[Instruction] = []
    for count, heads in _pieces(kv_heads, per_chunk):
        loads = ceil_div(heads * head_dim, on.lanes)
        chunk = (*_load(loads, on), *_dots(groups * heads, accesses, on))
        body.append(Loop(count, chunk))
    return Step(
        "gemv",
        (Loop(repeats, tuple(body)),) if repeats > 1 else tuple(body),
        total,
        groups * on.channels,
        macs=kv_heads * head_dim * tokens * repeats,
    )


def write_state(write: StateWrite, on: Layout) -> Step:
    """Append new vectors to a cache in place."""
    per_burst = on.burst_bytes // write.element_bytes
    if not write.column_major:
        vectors = ceil_div(write.tokens, on.channels)
        body = _bank_accesses("WR", ceil_div(write.width, per_burst), on)
        return Step("cache write", (Loop(vectors, body), Close()), write.tokens, vectors * on.channels)
    columns = ceil_div(write.width, on.units)
    groups = ceil_div(columns, on.channels)
    bursts = on.units * ceil_div(write.tokens, per_burst)
    body = (Row(), Command("WR", bursts))
    return Step("cache write", (Loop(groups, body), Close()), columns, groups * on.channels)


def read_rows(rows: int, row_bytes: int, on: Layout) -> Step:
    """Rows picked by index, each from one bank, to the host."""
    each = ceil_div(rows, on.channels)
    body = _bank_accesses("RD", ceil_div(row_bytes, on.burst_bytes), on)
    return Step("row read", (Loop(each, body), Close()), rows, each * on.channels)


def read_spread(nbytes: int, on: Layout) -> Step:
    """Parameters (norm scales, biases) spread over all channels, to the host."""
    bursts = ceil_div(nbytes, on.burst_bytes)
    each = ceil_div(bursts, on.channels)
    return Step("parameter read", (*_bank_accesses("RD", each, on), Close()), bursts, each * on.channels)


def write_spread(nbytes: int, on: Layout) -> Step:
    """An activation matrix that is multiplied by: written to the banks first."""
    bursts = ceil_div(nbytes, on.burst_bytes)
    each = ceil_div(bursts, on.channels)
    return Step("operand write", (*_bank_accesses("WR", each, on), Close()), bursts, each * on.channels)


def partial_sums(k: int, outputs: int, on: Layout, splits: int = 1) -> int:
    """Additions left to the host for `outputs` dot products of length `k` shared by `splits` channels."""
    if on.outputs_per_unit > 1:
        return outputs * (on.lanes * splits - 1)
    return outputs * (ceil_div(k, on.inputs) - 1)


def _bank_accesses(command: str, bursts: int, on: Layout) -> tuple[Instruction, ...]:
    out: list[Instruction] = []
    for count, size in _pieces(bursts, on.row_accesses):
        out.append(Loop(count, (Row(bank=True), Command(command, size, bank=True))))
    return tuple(out)


def _pieces(total: int, size: int) -> Iterable[tuple[int, int]]:
    """(count, size) of the equal pieces of `total` and of the rest."""
    whole, rest = divmod(total, size)
    return [(c, s) for c, s in ((whole, size), (1 if rest else 0, rest)) if c]


def _load(bursts: int, on: Layout) -> tuple[Instruction, ...]:
    """Fill the input buffer."""
    return (Command("WRGB" if on.dialect is Dialect.AIM else "WRGRF", bursts),)


def _gemv(k: int, groups: int, on: Layout, packed: bool = True) -> tuple[Instruction, ...]:
    """One vector of length `k` against `groups` output groups of one channel."""
    if on.dialect is Dialect.HBM:
        return _hbm_gemv(k, groups, on)
    body: list[Instruction] = []
    for count, values in _pieces(k, on.inputs):
        accesses = ceil_div(values, on.lanes)
        dots = _dots(groups, accesses, on) if packed else (Loop(groups, (Row(), *_dot(accesses, on))),)
        body.append(Loop(count, (*_load(accesses, on), *dots)))
    return tuple(body)


def _dot(accesses: int, on: Layout) -> tuple[Instruction, ...]:
    """One dot product per bank in the open row: at most a row's accesses."""
    first: tuple[Instruction, ...] = (Command("WRMAC16"),) if on.bias_write else ()
    wait: tuple[Instruction, ...] = (Wait(on.result_wait),) if on.result_wait else ()
    rows: list[Instruction] = []
    for i, (count, size) in enumerate(_pieces(accesses, on.row_accesses)):
        for j in range(count):
            rows += [Row()] if i + j else []
            rows.append(Command("MAC16", size))
    return (*first, *rows, Command("RDMAC16"), *wait)


def _dots(outputs: int, accesses: int, on: Layout) -> tuple[Instruction, ...]:
    """`outputs` dot products of `accesses` column accesses each, packed into rows without gaps."""
    period = math.lcm(accesses, on.row_accesses) // accesses
    out: list[Instruction] = []
    for count, size in _pieces(outputs, period):
        out.append(Loop(count, _packed(size, accesses, on)))
    return tuple(out)


def _packed(outputs: int, accesses: int, on: Layout) -> tuple[Instruction, ...]:
    """Dot products from the start of a row, with a new row wherever one is full."""
    out: list[Instruction] = []
    at = 0
    for _ in range(outputs):
        if on.bias_write:
            out.append(Command("WRMAC16"))
        left = accesses
        while left:
            if at % on.row_accesses == 0:
                out.append(Row())
            take = min(left, on.row_accesses - at % on.row_accesses)
            out.append(Command("MAC16", take))
            at += take
            left -= take
        out.append(Command("RDMAC16"))
        if on.result_wait:
            out.append(Wait(on.result_wait))
    return tuple(out)


def _hbm_gemv(k: int, groups: int, on: Layout) -> tuple[Instruction, ...]:
    """HBM-PIM: per output group, input tiles through the register file, then accumulators to the bank and
    from there to the host."""
    tiles: list[Instruction] = []
    for count, values in _pieces(k, on.inputs):
        loads = ceil_div(values, on.lanes)
        macs: list[Instruction] = []
        for rows, size in _pieces(loads * on.outputs_per_unit, on.row_accesses):
            macs.append(Loop(rows, (Row(), Command("MACab", size))))
        tiles.append(Loop(count, (*_load(loads, on), *macs)))
    results = (Row(), Command("MOVab", on.outputs_per_unit), Command("RD", on.units * on.outputs_per_unit))
    return (Loop(groups, (*tiles, *results)),)
