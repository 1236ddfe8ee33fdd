"""Weight sparsity: which weights of the blocks' matrices become zero, by magnitude, without retraining.

A share (0.5) zeroes the smallest weights of every matrix (Han et al., arXiv:1506.02626); "N:M" keeps the N
largest of every M neighbours along a row of inputs (2:4: Mishra et al., arXiv:2104.08378). Embeddings, norms,
biases and the head stay whole, as those papers leave what is small or sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError

_PATTERN = re.compile(r"(\d{1,3}):(\d{1,3})$")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Sparsity:
    """`share` of every matrix zero; or, with `group` > 0, `group - keep` of every `group` neighbours."""

    share: float = 0.0
    keep: int = 0
    group: int = 0

    def zeros(self, shape: tuple[int, ...]) -> int:
        """Zeros in a matrix [outputs, inputs].

        Raises:
            UserError: a row of inputs is not a whole number of groups.
        """
        size = int(np.prod(shape))
        if not self.group:
            return round(self.share * size)
        if shape[-1] % self.group:
            raise UserError(
                f"sparsity {self.keep}:{self.group} does not divide a row of {shape[-1]} weights",
                where="model.sparsity",
            )
        return size // self.group * (self.group - self.keep)


def parse_sparsity(value: str | float) -> Sparsity:
    """`0.5` or `"2:4"`.

    Raises:
        UserError: neither a share below 1 nor a pattern N:M with 0 < N <= M.
    """
    match = _PATTERN.match(value) if isinstance(value, str) else None
    if match:
        keep, group = int(match[1]), int(match[2])
        if 0 < keep <= group:
            return Sparsity(keep=keep, group=group)
    elif not isinstance(value, (str, bool)) and 0 <= value < 1:
        return Sparsity(share=float(value))
    raise UserError(
        f"sparsity {value!r} is no pattern",
        where="model.sparsity",
        hint='a share of zeros from 0 to below 1 (0.5), or "2:4" in quotes: 2 of 4 neighbours kept',
    )


def is_pruned(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the parameter called `name` is a matrix of a block."""
    return name.startswith("blocks.") and len(shape) == 2


def count_zeros(shapes: Shapes, sparsity: Sparsity) -> int:
    """Zeros that `prune` puts into parameters of these shapes."""
    return sum(sparsity.zeros(shape) for name, shape in shapes.items() if is_pruned(name, shape))


def prune(weights: Mapping[str, NDArray[np.float32]], sparsity: Sparsity) -> dict[str, NDArray[np.float32]]:
    """Copies with the smallest magnitudes zero; of equal ones the first go."""
    return {
        name: _zeroed(value, sparsity) if is_pruned(name, value.shape) else value
        for name, value in weights.items()
    }


def _zeroed(value: NDArray[np.float32], sparsity: Sparsity) -> NDArray[np.float32]:
    zeros = sparsity.zeros(value.shape)
    group = sparsity.group or value.size
    per_group = zeros // (value.size // group)
    rows = value.reshape(-1, group).copy()
    order = np.argsort(np.abs(rows), axis=1, kind="stable")
    np.put_along_axis(rows, order[:, :per_group], np.float32(0), axis=1)
    return rows.reshape(value.shape)
