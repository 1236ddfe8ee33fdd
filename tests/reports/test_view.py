"""What every format shares: percentages that sum to 100.0, joined decompositions, ranges in words."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import fake
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tetrasim.reports import view
from tetrasim.reports.document import document
from tetrasim.reports.terminal import to_text, why
from tetrasim.sim.metric import Metric


@given(st.lists(st.floats(min_value=0, max_value=1e15), min_size=1, max_size=30), st.integers(0, 3))
def test_printed_percentages_sum_to_exactly_100(amounts: list[float], digits: int) -> None:
    shown = view.percents(amounts, digits)
    assert len(shown) == len(amounts)
    if sum(amounts) > 0:
        assert sum(map(Decimal, shown)) == 100
    for text, amount in zip(shown, amounts, strict=True):
        if sum(amounts) > 0:
            assert abs(float(text) - 100 * amount / sum(amounts)) < 10**-digits + 1e-6


def test_decomposition_of_a_run_sums_to_its_latency() -> None:
    result = fake.result()
    shares = view.time_shares(result)
    assert sum(s.amount for s in shares) == pytest.approx(result.latency.value * 1000)
    assert sum(s.fraction for s in shares) == pytest.approx(1.0)
    assert [s.amount for s in shares] == sorted((s.amount for s in shares), reverse=True)


def test_why_sums_small_parts_up_and_still_reaches_100() -> None:
    line = why(fake.result())
    numbers = [Decimal(part.split(" %")[0].split()[-1]) for part in line.split(" (=")[0].split(", ")]
    assert sum(numbers) == 100
    assert "other" in line
    assert "= 100.0 % of 179 ms" in line


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.9, 1.1, "±10 %"), (0.9, 1.3, "−10/+30 %"), (None, None, "not validated"), (1.05, 1.2, "+5/+20 %")],
)
def test_error_range(low: float | None, high: float | None, text: str) -> None:
    assert view.error_range(Metric(1.0, "ns", low, high)) == text


def test_labels_say_what_differs() -> None:
    a, b = fake.result("gpu/t4"), fake.result("pim/aim")
    assert view.labels((a, b)) == ("gpu/t4", "pim/aim")
    assert view.labels((a, a)) == ("gpu/t4 #1", "gpu/t4 #2")
    assert view.labels((a, replace(a, model="bert"))) == ("gpt2-small gpu/t4", "bert gpu/t4")
    longer = replace(a, workload=replace(a.workload, generate=99))
    assert view.labels((a, longer))[1] == "gpu/t4 (generate 99)"


def test_a_narrow_terminal_drops_columns_instead_of_cutting_them() -> None:
    found = document((fake.result(), fake.result("pim/aim")))
    wide, narrow = to_text(found, width=200), to_text(found, width=100)
    assert "nodes modelled" in wide
    assert "nodes modelled" not in narrow
    assert "…" not in narrow
    assert all(len(line) <= 100 for line in narrow.splitlines()[:6])
    for kept in ("latency", "energy", "bound by", "error range"):
        assert kept in narrow
