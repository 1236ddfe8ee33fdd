"""digits-tiny trains in seconds, repeatably, to an accuracy that a linear model does not reach by chance."""

from __future__ import annotations

import numpy as np
import pytest

from tetrasim.errors import UserError
from tetrasim.models.digits import cut, load_digits, train_digits
from tetrasim.models.zoo import preset


def test_images_are_cut_into_rectangles_row_by_row() -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    assert cut(image, 16)[0, :2].tolist() == [[0, 1, 8, 9], [2, 3, 10, 11]]
    assert cut(image, 8)[0, 0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    for tokens in (1, 2, 4, 8, 16, 32, 64):
        assert sorted(cut(image, tokens).ravel()) == list(range(64))
    with pytest.raises(UserError, match="12 tokens"):
        cut(image, 12)


def test_the_split_is_fixed_and_disjoint() -> None:
    data = load_digits(16)
    assert len(data.train) + len(data.test) == 1797
    assert data.train.shape[1:] == (16, 4)
    assert 0 <= data.train.min() < data.train.max() <= 1


def test_training_learns() -> None:
    assert train_digits(epochs=8, seed=1).test_accuracy > 0.85


def test_training_repeats() -> None:
    first, again, other = (train_digits(epochs=1, seed=seed).weights for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_a_model_of_another_task_is_refused() -> None:
    with pytest.raises(UserError, match="does not take the digits"):
        train_digits(preset("jet-btag"))
