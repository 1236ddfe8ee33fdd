"""ByteTransformer's grouped products: tiles and blocks against its source, by hand."""

import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.gpu.config import Lengths
from tetrasim.hw_targets.gpu.expand import kernels_of_work
from tetrasim.hw_targets.gpu.kernels.attention_grouped import SCORES, VALUES, grid_of
from tetrasim.hw_targets.gpu.measurements import preset_config
from tetrasim.hw_targets.gpu.packing import packed_works, sequence_lengths
from tetrasim.sim.ops.work import AttentionShape, Operand, Work, WorkKind

A100 = with_overrides(preset_config("a100-sxm4-80gb"), {"attention": "grouped"})


def attention(batch: int, seq: int, heads: int = 12, keys: int = 0) -> Work:
    shape = AttentionShape(batch, seq, heads, heads, 64, 64, keys or seq, causal=False)
    q, k = (Operand(batch * n * heads * 64, 16) for n in (seq, keys or seq))
    return Work("Attention", WorkKind.ATTENTION, (q, k, k), (q,), attention=shape)


@pytest.mark.parametrize(("seq", "blocks", "tiles"), [(256, 48, 16 * 48), (384, 108, 16 * 108)])
def test_unpadded_grid_has_one_sequences_tiles_as_blocks(seq: int, blocks: int, tiles: int) -> None:
    kernels = {k.op: k for k in kernels_of_work(attention(16, seq), A100)}
    grid = grid_of(kernels[SCORES], A100)
    assert (grid.blocks, grid.tiles, grid.k) == (blocks, tiles, 64)
    values = grid_of(kernels[VALUES], A100)
    assert (values.rows, values.tiles, values.k) == (64, 16 * 12 * seq // 64, seq)


def test_lengths_have_their_mean_and_reach_the_padded_length() -> None:
    lengths = sequence_lengths(1000, 100, 0.6, Lengths.UNIFORM)
    assert sum(lengths) / 100 == pytest.approx(600, abs=1)
    assert 990 <= max(lengths) <= 1000
    assert 200 <= min(lengths) <= 210
    assert set(sequence_lengths(1000, 4, 0.3, Lengths.EQUAL)) == {300}


def test_packed_tiles_follow_the_true_lengths() -> None:
    config = with_overrides(A100, {"fill": 0.5, "lengths": "equal", "packing": "layer"})
    (packed,) = packed_works([attention(4, 512)], 0.5, config.packing, config.lengths)
    kernels = {k.op: k for k in kernels_of_work(packed, config)}
    grid = grid_of(kernels[SCORES], config)
    assert grid.tiles == 4 * 12 * 2 * 2  # 256 tokens: two tiles a side
    assert grid.blocks == 12 * 4 * 4  # of the padded 512


def test_a_cache_has_keys_of_its_own() -> None:
    kernels = {k.op: k for k in kernels_of_work(attention(2, 1, keys=4096), A100)}
    scores, values = (grid_of(kernels[op], A100) for op in (SCORES, VALUES))
    assert (scores.tiles, scores.blocks) == (2 * 12 * 32, 12 * 32)
    assert (values.tiles, values.k) == (2 * 12, 4096)
