"""Fronts and hypervolumes equal their definitions on random points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tetrasim.dse.importance import correlation_ratio
from tetrasim.dse.pareto import dominates, extend_front, front, hypervolume

grid = st.integers(0, 5)


@st.composite
def clouds(draw: st.DrawFn, most: int = 12) -> list[tuple[float, ...]]:
    dims = draw(st.integers(1, 4))
    return draw(st.lists(st.tuples(*[grid.map(float)] * dims), min_size=1, max_size=most))


@given(clouds())
def test_front_is_the_set_that_nothing_dominates(points: list[tuple[float, ...]]) -> None:
    chosen = [points[i] for i in front(points)]
    expected = {p for p in points if not any(dominates(q, p) for q in points)}
    assert set(chosen) == expected
    assert len(chosen) == len(expected)


@given(clouds())
def test_a_front_grows_point_by_point(points: list[tuple[float, ...]]) -> None:
    kept: list[tuple[float, ...]] = []
    for point in points:
        kept = extend_front(kept, point)
    assert sorted(kept) == sorted(points[i] for i in front(points))


@given(clouds(8))
def test_hypervolume_counts_unit_cells(points: list[tuple[float, ...]]) -> None:
    """On an integer grid the volume is the number of unit cells that some point dominates."""
    dims = len(points[0])
    cells = np.indices((6,) * dims).reshape(dims, -1).T
    covered = sum(any(all(c >= x for c, x in zip(cell, p, strict=True)) for p in points) for cell in cells)
    assert hypervolume(points, (6.0,) * dims) == covered


def test_points_beyond_the_reference_count_nothing() -> None:
    assert hypervolume([(7.0, 1.0)], (6.0, 6.0)) == 0.0


def test_importance_is_one_where_a_parameter_decides_all() -> None:
    values = ["a", "b", "a", "b", "c", "c"]
    amounts = np.array([1.0, 2.0, 1.0, 2.0, 7.0, 7.0])
    assert correlation_ratio(values, amounts) == pytest.approx(1.0)
    assert correlation_ratio(["x", "y"] * 3, np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])) < 0.2
    assert correlation_ratio(values, np.zeros(6)) == 0.0
