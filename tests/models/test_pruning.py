"""Weight sparsity zeroes exactly the smallest weights of the blocks' matrices and nothing else."""

import numpy as np
import pytest

from tetrasim.errors import UserError
from tetrasim.models.pruning import Sparsity, count_zeros, parse_sparsity, prune

RNG = np.random.default_rng(0)
WEIGHTS = {
    "embedding.token.weight": RNG.standard_normal((10, 8)).astype(np.float32),
    "blocks.0.ffn.up.weight": RNG.standard_normal((6, 8)).astype(np.float32),
    "blocks.0.ffn.up.bias": RNG.standard_normal(6).astype(np.float32),
}
MATRIX = "blocks.0.ffn.up.weight"


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 0.9, "1:4", "2:4", "4:8", "4:4"])
def test_the_counted_zeros_are_the_smallest(value: str | float) -> None:
    sparsity = parse_sparsity(value)
    out = prune(WEIGHTS, sparsity)
    zeros = {name: int((array == 0).sum()) for name, array in out.items()}
    assert zeros.pop(MATRIX) == count_zeros({n: a.shape for n, a in WEIGHTS.items()}, sparsity)
    assert not any(zeros.values())
    before, after = WEIGHTS[MATRIX], out[MATRIX]
    assert np.array_equal(after[after != 0], before[after != 0])
    for old, new in zip(
        before.reshape(-1, sparsity.group or 48), after.reshape(-1, sparsity.group or 48), strict=True
    ):
        gone, left = np.abs(old[new == 0]), np.abs(old[new != 0])
        assert not gone.size or gone.max() <= left.min()
        if sparsity.group:
            assert left.size == sparsity.keep


@pytest.mark.parametrize("value", [1.0, -0.1, True, "5:4", "0:4", "half", "2:4:8"])
def test_no_pattern(value: str | float) -> None:
    with pytest.raises(UserError, match="is no pattern"):
        parse_sparsity(value)


def test_a_row_must_be_whole_groups() -> None:
    with pytest.raises(UserError, match="does not divide a row of 6"):
        Sparsity(keep=2, group=4).zeros((8, 6))
