"""Mappings: every weight is read exactly once per vector, rows are packed, buffers are not overfilled."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tetrasim.hw_targets.common.dram.program import Command, Instruction, Loop
from tetrasim.hw_targets.pim.config import Dialect
from tetrasim.hw_targets.pim.layout import Layout
from tetrasim.hw_targets.pim.mapping import (
    batched_gemv,
    key_gemv,
    partial_sums,
    splits_of,
    weights_gemv,
    write_state,
)
from tetrasim.hw_targets.pim.steps import StateWrite
from tetrasim.hw_targets.pim.view import accesses_and_rows

GPT = Layout(Dialect.AIM, 8, 16, 16, 1024, 1, 64, 2048, 32, 2, False, 0)
HBM = Layout(Dialect.HBM, 64, 8, 16, 128, 8, 32, 1024, 32, 2, False, 0, launches=True, paired=True)


def commands(instructions: Iterable[Instruction]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in instructions:
        inner: dict[str, int] = {}
        if isinstance(item, Command):
            inner = {item.name: item.repeats}
        elif isinstance(item, Loop):
            inner = {n: item.count * c for n, c in commands(item.body).items()}
        for name, count in inner.items():
            found[name] = found.get(name, 0) + count
    return found


def dealt(k: int, n: int) -> list[list[tuple[int, int]]]:
    """Per channel, (output groups, accesses of each) of every chunk: groups of 16 outputs of all chunks are
    dealt out one by one over 8 channels."""
    chunks = [-(-min(1024, k - at) // 16) for at in range(0, k, 1024)]
    counts = [[0] * len(chunks) for _ in range(8)]
    for i in range(len(chunks) * -(-n // 16)):
        counts[i % 8][i // -(-n // 16)] += 1
    return [list(zip(row, chunks, strict=True)) for row in counts]


@given(k=st.integers(1, 9000), n=st.integers(1, 3000), vectors=st.integers(1, 4))
def test_weights_are_read_once_per_vector(k: int, n: int, vectors: int) -> None:
    """The program is that of the channel with the most accesses; energy counts the accesses of all."""
    step = weights_gemv(k, n, vectors, GPT)
    found = commands(step.instructions)
    shares = dealt(k, n)
    most = max(sum(g * a for g, a in share) for share in shares)
    assert found["MAC16"] == vectors * most
    assert step.work_channels * most * 8 == step.max_channels * sum(g * a for s in shares for g, a in s)
    busiest = [s for s in shares if sum(g * a for g, a in s) == most]
    counts = (found["RDMAC16"] // vectors, found["WRGB"] // vectors)
    assert counts in [(sum(g for g, _ in s), sum(a for g, a in s if g)) for s in busiest]


@given(k=st.integers(1, 9000), n=st.integers(1, 3000))
def test_rows_are_packed(k: int, n: int) -> None:
    """A chunk's columns follow each other without gaps: as few rows as the accesses need."""
    rows = accesses_and_rows(weights_gemv(k, n, 1, GPT).instructions)[1]
    shares = dealt(k, n)
    most = max(sum(g * a for g, a in s) for s in shares)
    wanted = [sum(-(-g * a // 64) for g, a in s) for s in shares if sum(g * a for g, a in s) == most]
    assert rows in wanted


def test_no_unit_idles_chunk_after_chunk() -> None:
    """GPT2-XL's second FFN layer: 100 groups of 16 outputs in six full chunks and one of 256 inputs over 8
    channels: 75 full groups each, and 13 narrow ones; not 13 of each."""
    assert commands(weights_gemv(6400, 1600, 1, GPT).instructions)["MAC16"] == 75 * 64 + 13 * 16


@given(k=st.integers(1, 700), n=st.integers(1, 9000))
def test_hbm_pim_tiles(k: int, n: int) -> None:
    """Per output group of 64: 8 accumulators x 16-value accesses, 8 results moved, 64 bursts read."""
    found = commands(weights_gemv(k, n, 1, HBM).instructions)
    groups = -(-n // (64 * 64))
    tiles = -(-k // 128)
    each = -(-tiles // splits_of(k, n, HBM))
    part = min(k, each * 128)
    assert each * splits_of(k, n, HBM) >= tiles
    loads = groups * sum(-(-min(128, part - at) // 16) for at in range(0, part, 128))
    assert found["MACab"] == 8 * loads
    assert found.get("WRGRF", 0) + found.get("WRGRFodd", 0) == loads
    assert found["MOVab"] == 8 * groups
    assert found["ENTER"] == found["LEAVE"] == 1
    assert found["RD"] == 64 * groups


@pytest.mark.parametrize(("tokens", "groups"), [(1, 1), (128, 1), (129, 2), (1024, 8)])
def test_keys_are_dealt_out_by_token(tokens: int, groups: int) -> None:
    """GPT3-XL: 16 heads of 128 fill two buffer loads; each token group reads 128 accesses."""
    found = commands(key_gemv(16, 128, tokens, 1, GPT).instructions)
    assert found == {"WRGB": 128, "MAC16": groups * 128, "RDMAC16": groups * 16}


def test_values_are_dealt_out_by_head() -> None:
    """16 heads of 128 columns over 8 channels of 16 banks: two heads of eight column groups per channel."""
    step = batched_gemv(16, 512, 128, 1, GPT)
    assert commands(step.instructions) == {"WRGB": 2 * 32, "MAC16": 16 * 32, "RDMAC16": 16}
    assert (step.work_channels, step.max_channels) == (128, 128)


def test_cache_writes() -> None:
    """A 2,048-wide key fills two rows of a bank; a value goes to one row per column, 16 per bank."""
    key = write_state(StateWrite(1, 2048, False, 2), GPT)
    assert commands(key.instructions) == {"WR": 128}
    assert (key.work_channels, key.max_channels) == (1, 8)
    value = write_state(StateWrite(1, 2048, True, 2), GPT)
    assert commands(value.instructions) == {"WR": 256}
    assert accesses_and_rows(value.instructions)[1] == 16


def test_partial_sums() -> None:
    assert partial_sums(1024, 100, GPT) == 0
    assert partial_sums(1025, 100, GPT) == 100
    assert partial_sums(128, 100, HBM) == 1500
