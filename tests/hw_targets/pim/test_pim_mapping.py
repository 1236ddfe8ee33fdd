"""Mappings: every weight is read exactly once per vector, rows are packed, buffers are not overfilled."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tetrasim.hw_targets.common.dram.program import Command, Instruction, Loop
from tetrasim.hw_targets.pim.config import Dialect
from tetrasim.hw_targets.pim.mapping import (
    Layout,
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
HBM = Layout(Dialect.HBM, 64, 8, 16, 128, 8, 32, 1024, 32, 2, False, 0)


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


@given(k=st.integers(1, 3000), n=st.integers(1, 3000), vectors=st.integers(1, 4))
def test_weights_are_read_once_per_vector(k: int, n: int, vectors: int) -> None:
    """Accesses of the busiest channel: its columns times 16-value accesses of every chunk."""
    found = commands(weights_gemv(k, n, vectors, GPT).instructions)
    columns = -(-n // 128)
    per_column = sum(-(-min(1024, k - at) // 16) for at in range(0, k, 1024))
    assert found["MAC16"] == vectors * columns * per_column
    assert found["RDMAC16"] == vectors * columns * -(-k // 1024)
    assert found["WRGB"] == vectors * per_column


@given(k=st.integers(1, 3000), n=st.integers(1, 3000))
def test_rows_are_packed(k: int, n: int) -> None:
    """A chunk's columns follow each other without gaps: as few rows as the accesses need."""
    step = weights_gemv(k, n, 1, GPT)
    columns = -(-n // 128)
    rows = sum(-(-columns * -(-min(1024, k - at) // 16) // 64) for at in range(0, k, 1024))
    assert accesses_and_rows(step.instructions)[1] == rows


@given(k=st.integers(1, 700), n=st.integers(1, 9000))
def test_hbm_pim_tiles(k: int, n: int) -> None:
    """Per output group of 64: 8 accumulators x 16-value accesses, 8 results moved, 64 bursts read."""
    found = commands(weights_gemv(k, n, 1, HBM).instructions)
    groups = -(-n // (64 * 64))
    tiles = -(-k // 128)
    each = -(-tiles // splits_of(k, n, HBM))
    part = min(k, each * 128)
    assert each * splits_of(k, n, HBM) >= tiles
    assert found["MACab"] == groups * 8 * sum(-(-min(128, part - at) // 16) for at in range(0, part, 128))
    assert found["MOVab"] == 8 * groups
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
