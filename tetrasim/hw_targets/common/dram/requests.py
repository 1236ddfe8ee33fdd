"""Request generators of the replay format: seeded linear-congruential draws, nested loops, bit formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

LCG_MULTIPLIER, LCG_INCREMENT, LCG_MASK = 1103515245, 12345, 0x7FFFFFFF


@jit
def lcg_from(x: int, count: int, emit_shift: int) -> tuple[int, NDArray[np.int64]]:
    """`count` draws of x = (1103515245 x + 12345) mod 2**31, each emitted as x >> `emit_shift`, and the x to
    go on from."""
    out = np.empty(count, np.int64)
    for i in range(count):
        x = (LCG_MULTIPLIER * x + LCG_INCREMENT) & LCG_MASK
        out[i] = x >> emit_shift
    return x, out


def lcg(seed: int, count: int, emit_shift: int) -> NDArray[np.int64]:
    """The first `count` draws of `lcg_from`."""
    return lcg_from(seed, count, emit_shift)[1]


def nested(
    order: Sequence[tuple[str, int]], fixed: dict[str, int], fields: Sequence[str]
) -> dict[str, NDArray[np.int64]]:
    """Loops over `order` (outermost first), the other fields `fixed` (0 when not given)."""
    total = int(np.prod([n for _, n in order])) if order else 0
    out = {f: np.full(total, fixed.get(f, 0), dtype=np.int64) for f in fields}
    stride = total
    for name, count in order:
        stride //= count
        out[name] = (np.arange(total) // stride) % count
    return out
