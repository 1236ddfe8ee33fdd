"""The weights of a candidate that is trained inside a study: on the digits, with a seed, kept by content."""

from __future__ import annotations

import contextlib
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tetrasim.errors import UserError
from tetrasim.files.npz import read_npz, write_npz

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tetrasim.models.config import ModelConfig

DEFAULT_EPOCHS = 40


def trained_weights(config: ModelConfig, epochs: int = 0) -> Mapping[str, NDArray[np.float32]]:
    """Weights of `config` trained on the digits, by torch parameter name; trained once per content."""
    from tetrasim.export.cache import code_hash
    from tetrasim.files.cache import cache_root

    epochs = epochs or DEFAULT_EPOCHS
    text = "\0".join((config.model_dump_json(exclude={"name", "title"}), str(epochs), code_hash()))
    file = cache_root() / "digits" / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"
    found = _read(file)
    if found is None:
        from tetrasim.models.digits import train_digits

        found = train_digits(config, epochs=epochs).weights
        _write(file, found)
    return found


def sparse_weights(
    config: ModelConfig, epochs: int, sparsity: str | float
) -> Mapping[str, NDArray[np.float32]] | Literal["none"]:
    """The trained weights (`epochs` of at least 0) or the seeded random ones, pruned; "none" above the size
    up to which an export holds weights."""
    from tetrasim.export.exporter import AUTO_LIMIT, parameter_shapes
    from tetrasim.models.pruning import parse_sparsity, prune
    from tetrasim.models.weights import random_weight

    if epochs >= 0:
        return prune(trained_weights(config, epochs), parse_sparsity(sparsity))
    shapes = parameter_shapes(config)
    if sum(math.prod(shape) for shape in shapes.values()) > AUTO_LIMIT:
        return "none"
    dense = {name: random_weight(name, shape, 0) for name, shape in shapes.items()}
    return prune(dense, parse_sparsity(sparsity))


def _read(file: Path) -> Mapping[str, NDArray[np.float32]] | None:
    try:
        return read_npz(file)
    except UserError:
        return None


def _write(file: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    with contextlib.suppress(UserError):  # a cache that cannot be written costs time
        write_npz(file, weights)
