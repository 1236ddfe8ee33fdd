"""Seeded random weights: the same numbers for a parameter name and seed everywhere, without torch.

Trained values are not needed to time a model; values of the right size are, to check its numerics.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def random_weight(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Seeded normal values that depend on the parameter's name only: norms around 1, embeddings and biases
    with deviation 0.02 (GPT-2), matrices with 1 / sqrt(inputs) so that any width gives outputs of order 1."""
    generator = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    values = generator.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:
        values *= np.float32(0.02)
        if "norm" in name and name.endswith("weight"):
            values += np.float32(1)
        return values
    is_table = "embedding" in name and not name.endswith(("project.weight", "patch.weight"))
    values *= np.float32(0.02 if is_table else 1 / np.sqrt(np.prod(shape[1:])))
    return values
