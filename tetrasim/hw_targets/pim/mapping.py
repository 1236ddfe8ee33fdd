"""Where matrices live and the instruction lists that multiply by them.

Weights: output column j is a run of consecutive values in one bank; columns are dealt out over channels and
banks so that an all-bank MAC works on one column per bank, and columns follow each other without gaps in the
2 KB rows (row hits maximised). Inputs wider than the global buffer are chunked, the host adds partial sums
(PIM-GPT, arXiv 2310.09385, section on mapping). Columns of all chunks are dealt out in one go, so that a
width that the units do not divide leaves no unit idle chunk after chunk.

K: one token's key vector, all heads concatenated, fills rows of one bank; tokens are dealt out over channels
and banks. V: one value column fills rows of one bank, with space reserved for coming tokens; heads are dealt
out over channels, each with its own buffer.

HBM-PIM (`hbm.py`): no adder tree. A unit keeps `outputs_per_unit` accumulators of 16 lanes; inputs come in
tiles of 128 values through the register file; lanes are added by the host.
"""

from __future__ import annotations

import math

from tetrasim.hw_targets.common.dram.program import Close, Command, Instruction, Loop, Row, Wait
from tetrasim.hw_targets.pim import hbm
from tetrasim.hw_targets.pim.config import Dialect
from tetrasim.hw_targets.pim.layout import Layout, pieces
from tetrasim.hw_targets.pim.steps import StateWrite, Step, ceil_div


def weights_gemv(k: int, n: int, vectors: int, on: Layout) -> Step:
    """`vectors` products with one resident [k, n] matrix."""
    total = ceil_div(n, on.group)
    if on.dialect is Dialect.AIM:
        body, all_accesses, busiest = _dealt(k, total, on)
        whole: tuple[Instruction, ...] = body
        if vectors > 1:
            whole = (Loop(vectors, body, row_step=0, restore_row=True), Close())
        return Step("gemv", whole, all_accesses, busiest * on.channels, macs=k * n * vectors)
    groups = ceil_div(total, on.channels)
    tiles = ceil_div(k, on.inputs)
    each = ceil_div(tiles, splits_of(k, n, on))  # input tiles of one channel
    part = min(k, each * on.inputs)
    body = hbm.products(part, groups, on, first=True)
    if vectors > 1:
        again = hbm.products(part, groups, on, first=False)
        body = (
            Loop(1, body, row_step=0, restore_row=True),
            Loop(vectors - 1, again, row_step=0, restore_row=True),
            Close(),
        )
    whole = hbm.launch(body, vectors * groups, on)
    return Step("gemv", whole, total * tiles, groups * each * on.channels, macs=k * n * vectors)


def _dealt(k: int, total: int, on: Layout) -> tuple[tuple[Instruction, ...], int, int]:
    """One vector against `total` output groups of every input chunk, dealt out over the channels chunk after
    chunk without starting again at the first, so that all units work (PIM-GPT): the busiest channel's
    instructions, the accesses of all channels and of that one."""
    base, extra = divmod(total, on.channels)
    (count, width), *rest = pieces(k, on.inputs)
    accesses = ceil_div(width, on.lanes)
    narrow = ceil_div(rest[0][1], on.lanes) if rest else 0

    def extras(channel: int) -> tuple[int, int]:
        """Chunks of which `channel` has a group more than others: full ones, and the narrow one."""
        more = [(channel - j * total) % on.channels < extra for j in range(count + len(rest))]
        return sum(more[:count]), sum(more[count:])

    most, last = max((extras(c) for c in range(on.channels)), key=lambda e: e[0] * accesses + e[1] * narrow)
    body: list[Instruction] = []
    for chunks, groups, each in (
        (most, base + 1, accesses),
        (count - most, base, accesses),
        (len(rest), base + last, narrow),
    ):
        if chunks and groups:
            body.append(Loop(chunks, (Command("WRGB", each), *_dots(groups, each, on))))
    busiest = (count * base + most) * accesses + (base + last) * narrow
    return tuple(body), total * (count * accesses + narrow), busiest


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
    shares = [(c, s) for c, s in ((whole, per_matrix), (1 if rest else 0, rest)) if c]
    if on.dialect is Dialect.HBM:
        start, again = (hbm.matrices(k, shares, on, first=first) for first in (True, False))
        body = start if repeats == 1 else (*start, Loop(repeats - 1, again))
        instructions = hbm.launch(body, groups * repeats, on)
    else:
        body = tuple(Loop(count, _gemv(k, size, on)) for count, size in shares)
        instructions = (Loop(repeats, body),) if repeats > 1 else body
    return Step(
        "gemv",
        instructions,
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
    for count, heads in pieces(kv_heads, per_chunk):
        loads = ceil_div(heads * head_dim, on.lanes)
        chunk = (Command("WRGB", loads), *_dots(groups * heads, accesses, on))
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
        total = write.tokens * write.sequences
        vectors = ceil_div(total, on.channels)
        body = _bank_accesses("WR", ceil_div(write.width, per_burst), on)
        return Step("cache write", (Loop(vectors, body), Close()), total, vectors * on.channels)
    columns = ceil_div(write.width, on.units) * write.sequences
    groups = ceil_div(columns, on.channels)
    bursts = on.units * ceil_div(write.tokens, per_burst)
    body = (Row(), Command("WR", bursts))
    return Step("cache write", (Loop(groups, body), Close()), columns, groups * on.channels)


def access_rows(command: str, rows: int, row_bytes: int, on: Layout) -> Step:
    """Rows picked by index, each in one bank: read to the host ("RD") or written by it ("WR")."""
    each = ceil_div(rows, on.channels)
    body = _bank_accesses(command, ceil_div(row_bytes, on.burst_bytes), on)
    kind = "row read" if command == "RD" else "row write"
    return Step(kind, (Loop(each, body), Close()), rows, each * on.channels)


def read_spread(nbytes: int, on: Layout) -> Step:
    """Parameters (norm scales, biases) spread over all channels, to the host."""
    bursts = ceil_div(nbytes, on.burst_bytes)
    each = ceil_div(bursts, on.channels)
    instructions = (*_bank_accesses("RD", each, on), Close())
    return Step("parameter read", instructions, bursts, each * on.channels, ahead=True)


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
    for count, size in pieces(bursts, on.row_accesses):
        out.append(Loop(count, (Row(bank=True), Command(command, size, bank=True))))
    return tuple(out)


def _gemv(k: int, groups: int, on: Layout) -> tuple[Instruction, ...]:
    """One vector of length `k` against `groups` output groups, each in rows of its own (caches that grow)."""
    body: list[Instruction] = []
    for count, values in pieces(k, on.inputs):
        accesses = ceil_div(values, on.lanes)
        body.append(Loop(count, (Command("WRGB", accesses), Loop(groups, (Row(), *_dot(accesses, on))))))
    return tuple(body)


def _dot(accesses: int, on: Layout) -> tuple[Instruction, ...]:
    """One dot product per bank in the open row: at most a row's accesses."""
    first: tuple[Instruction, ...] = (Command("WRMAC16"),) if on.bias_write else ()
    wait: tuple[Instruction, ...] = (Wait(on.result_wait),) if on.result_wait else ()
    rows: list[Instruction] = []
    for i, (count, size) in enumerate(pieces(accesses, on.row_accesses)):
        for j in range(count):
            rows += [Row()] if i + j else []
            rows.append(Command("MAC16", size))
    return (*first, *rows, Command("RDMAC16"), *wait)


def _dots(outputs: int, accesses: int, on: Layout) -> tuple[Instruction, ...]:
    """`outputs` dot products of `accesses` column accesses each, packed into rows without gaps."""
    period = math.lcm(accesses, on.row_accesses) // accesses
    out: list[Instruction] = []
    for count, size in pieces(outputs, period):
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
