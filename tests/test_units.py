"""Unit conversion is exact where the period is whole picoseconds and rounds to nearest elsewhere."""

import pytest

from tetrasim.units import cycles_to_ps, si


@pytest.mark.parametrize(
    ("cycles", "clock_hz", "ps"),
    [(3, 10**9, 3000), (1, 1_590_000_000, 629), (10**12, 3 * 10**9, 333_333_333_333_333), (0, 7, 0)],
)
def test_cycles_to_ps(cycles: int, clock_hz: int, ps: int) -> None:
    assert cycles_to_ps(cycles, clock_hz) == ps


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00841, "8.41 ms"),
        (1.0, "1.00 s"),
        (0.0, "0 s"),
        (-2.5e-6, "-2.50 us"),
        (999.0, "999 s"),
        (3e-13, "3.00e-13 s"),
    ],
)
def test_si_keeps_three_significant_digits(value: float, text: str) -> None:
    assert si(value, "s") == text
