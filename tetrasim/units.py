"""The one file that converts and prints units.

Cycles, bits, bytes and picoseconds are integers everywhere; every other number carries its unit in its
name. Clocks are integer hertz, so a cycle count becomes picoseconds here and only here.
"""

from __future__ import annotations

PS_PER_S = 10**12
_SI = tuple((10.0 ** (12 - 3 * i), p) for i, p in enumerate(("T", "G", "M", "k", "", "m", "u", "n", "p")))


def cycles_to_ps(cycles: int, clock_hz: int) -> int:
    """Picoseconds of `cycles` at `clock_hz`, rounded to nearest (exact when the period is whole ps)."""
    return (cycles * PS_PER_S + clock_hz // 2) // clock_hz


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
