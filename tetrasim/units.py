"""The one file that converts and prints units.

Cycles, bits, bytes and picoseconds are integers everywhere; every other number carries its unit in its
name. Clocks are integer hertz, so a cycle count becomes picoseconds here and only here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PS_PER_S = 10**12
_SI = tuple((10.0 ** (12 - 3 * i), p) for i, p in enumerate(("T", "G", "M", "k", "", "m", "u", "n", "p")))


def cycles_to_ps(cycles: int, clock_hz: int) -> int:
    """Picoseconds of `cycles` at `clock_hz`, rounded to nearest (exact when the period is whole ps)."""
    return (cycles * PS_PER_S + clock_hz // 2) // clock_hz


def cycles_to_ps_array(cycles: NDArray[np.int64], clock_hz: int) -> NDArray[np.int64]:
    """`cycles_to_ps` of every element, exact: equal to the integer formula for any clock.

    The fraction 10^12 / clock is reduced, and whole periods are split off, so that no product exceeds 64
    bits; the rare clock for which that cannot be done goes through Python's integers.

    Raises:
        OverflowError: a time beyond 2^63 ps (106 days).
    """
    import numpy as np

    common = math.gcd(PS_PER_S, clock_hz)
    num, den = PS_PER_S // common, clock_hz // common
    if cycles.size and cycles_to_ps(int(np.abs(cycles).max()), clock_hz) >= 2**62:
        raise OverflowError(f"{int(cycles.max())} cycles at {clock_hz} Hz exceed the range of picoseconds")
    if den == 1:
        return np.multiply(cycles, num)
    whole: NDArray[np.int64] = cycles // den
    rest: NDArray[np.int64] = cycles - whole * den
    high, low = divmod(num, den)
    small: NDArray[np.int64]
    if den * num < 2**63:
        small = (rest * num + den // 2) // den
    elif den < 2**32:
        products = rest.astype(np.uint64) * np.uint64(low) + np.uint64(den // 2)
        small = rest * high + (products // np.uint64(den)).astype(np.int64)
    else:
        small = np.array([cycles_to_ps(int(c), clock_hz) for c in rest.flat], np.int64).reshape(rest.shape)
    return np.add(whole * num, small)


def si(value: float, unit: str, digits: int = 3) -> str:
    """`si(0.00841, "s")` -> `"8.41 ms"`."""
    if value == 0:
        return f"0 {unit}"
    for scale, prefix in _SI:
        if abs(value) >= scale:
            return f"{_significant(value / scale, digits)} {prefix}{unit}"
    return f"{value:.2e} {unit}"


def si_bytes(count: float) -> str:
    """Decimal bytes: `si_bytes(124_400_000)` -> `"124 MB"`."""
    return si(count, "B")


def _significant(value: float, digits: int) -> str:
    whole = len(str(int(abs(value))))
    return f"{value:.{max(digits - whole, 0)}f}"
