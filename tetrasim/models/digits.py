"""Train a small classifier on scikit-learn's digits (1,797 images of 8 x 8), seeded, in seconds.

The images ship with scikit-learn, so accuracy can be an objective of a search without any download. An
image becomes tokens by cutting it into equal rectangles, which `features` and `tokens` of the config say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.models.config import Classifier, Features, ModelConfig
from tetrasim.models.weights import random_weight
from tetrasim.models.zoo import resolve
from tetrasim.sim.threads import one_thread

if TYPE_CHECKING:
    from torch import nn

_SIDE = 8
_PIXELS = _SIDE * _SIDE
_TEST_FRACTION = 0.25


@dataclass(frozen=True, eq=False)
class TrainedDigits:
    """Weights by torch parameter name (for `export_model(..., weights=...)`) and what they reach."""

    config: ModelConfig
    weights: Mapping[str, NDArray[np.float32]]
    train_accuracy: float
    test_accuracy: float
    epochs: int
    seed: int


@dataclass(frozen=True, eq=False)
class Digits:
    """Features [images, tokens, features] in [0, 1] and labels, split with a fixed seed."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def load_digits(tokens: int = 16) -> Digits:
    """The data set cut into `tokens` rectangles per image (4, 8, 16, 32 or 64).

    Raises:
        UserError: scikit-learn is missing, or 64 pixels do not divide into that many rectangles.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise UserError("the digits data comes with scikit-learn", hint="pip install scikit-learn") from None
    raw = datasets.load_digits()
    images = (raw.images / 16.0).astype(np.float32)
    features = cut(images, tokens)
    order = np.random.default_rng(0).permutation(len(features))
    split = int(len(order) * _TEST_FRACTION)
    test, train = order[:split], order[split:]
    labels = raw.target.astype(np.int64)
    return Digits(features[train], labels[train], features[test], labels[test])


def cut(images: NDArray[np.float32], tokens: int) -> NDArray[np.float32]:
    """Images [n, 8, 8] -> [n, tokens, 64 / tokens]: equal rectangles, row by row.

    Raises:
        UserError: when `tokens` is not 1, 2, 4, …, 64.
    """
    if tokens < 1 or _PIXELS % tokens or tokens & (tokens - 1):
        raise UserError(f"an 8 x 8 image cannot be cut into {tokens} tokens", hint="1, 2, 4, 8, 16, 32 or 64")
    down = 1 << (tokens.bit_length() // 2)  # rows of rectangles: 16 -> 4, 8 -> 4, 32 -> 8, 64 -> 8
    across = tokens // down
    tall, wide = _SIDE // down, _SIDE // across
    parts = images.reshape(-1, down, tall, across, wide).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(parts.reshape(-1, tokens, tall * wide))


def train_digits(
    model: str | ModelConfig = "digits-tiny", *, seed: int = 0, epochs: int = 40, batch: int = 64
) -> TrainedDigits:
    """Train with AdamW and a one-cycle rate; deterministic for a seed on one machine.

    Raises:
        UserError: a model that does not take digits (features of 64 / tokens, 10 classes).
    """
    config = resolve(model)
    _check(config)
    data = load_digits(config.tokens)
    module = _initialised(config, seed)
    with one_thread():
        _fit(module, config, data, seed, epochs, batch)
    weights = {name: value.detach().numpy().copy() for name, value in module.named_parameters()}
    return TrainedDigits(
        config,
        weights,
        _accuracy(module, data.train, data.train_labels),
        _accuracy(module, data.test, data.test_labels),
        epochs,
        seed,
    )


def _fit(module: nn.Module, config: ModelConfig, data: Digits, seed: int, epochs: int, batch: int) -> None:
    import torch
    from torch.nn import functional

    x, y = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps)
    shuffle = torch.Generator().manual_seed(seed)
    logits = not isinstance(config.head, Classifier) or config.head.output == "none"
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=shuffle)
        for start in range(0, len(x) // batch * batch, batch):
            part = order[start : start + batch]
            out = module(x[part])
            loss = (
                functional.cross_entropy(out, y[part]) if logits else functional.nll_loss(out.log(), y[part])
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()


def _check(config: ModelConfig) -> None:
    source, head = config.input, config.head
    fits = isinstance(source, Features) and source.tokens * source.features == _PIXELS
    if not fits or not isinstance(head, Classifier) or head.classes != 10:
        raise UserError(
            f"model '{config.name}' does not take the digits",
            hint="it needs input kind features with tokens x features = 64, and a classifier of 10 classes",
        )


def _initialised(config: ModelConfig, seed: int) -> nn.Module:
    import torch

    from tetrasim.models.transformer import build

    module = build(config, device="cpu")
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(torch.from_numpy(random_weight(name, tuple(value.shape), seed)))
    return module


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Fraction of rows whose largest entry is the label's."""
    return float(np.mean(logits.argmax(-1) == labels))


def _accuracy(module: nn.Module, features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    import torch

    with torch.inference_mode():
        return accuracy(module(torch.from_numpy(features)).numpy(), labels)
