"""Pareto fronts and hypervolume (Zitzler and Thiele 1998), all objectives as values to minimise.

The hypervolume is exact: a sweep in two dimensions, slices along the last objective above that (While et al.
2006, "HSO"); fronts here have tens of points and at most four objectives.
"""

from __future__ import annotations

from collections.abc import Sequence

Vector = tuple[float, ...]


def dominates(a: Vector, b: Vector) -> bool:
    """a is nowhere worse and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def front(points: Sequence[Vector]) -> list[int]:
    """Indices of the points that none dominates; of equal points the first stays."""
    order = sorted(range(len(points)), key=lambda i: (points[i], i))
    kept: list[int] = []
    for i in order:  # in lexicographic order only earlier points can dominate a point
        if not any(dominates(points[j], points[i]) or points[j] == points[i] for j in kept):
            kept.append(i)
    return sorted(kept)


def extend_front(kept: list[Vector], point: Vector) -> list[Vector]:
    """The front of `kept`, which is one, and one more point."""
    if any(dominates(k, point) or k == point for k in kept):
        return kept
    return [*(k for k in kept if not dominates(point, k)), point]


def hypervolume(points: Sequence[Vector], reference: Vector) -> float:
    """Volume that the points dominate below `reference`; points outside it count nothing."""
    inside = [p for p in points if all(x < r for x, r in zip(p, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(p[0] for p in inside)
    if len(reference) == 2:
        return _area(inside, reference)
    volume = 0.0
    levels = sorted({p[-1] for p in inside})
    for level, above in zip(levels, [*levels[1:], reference[-1]], strict=True):
        slice_points = [p[:-1] for p in inside if p[-1] <= level]
        volume += (above - level) * hypervolume(slice_points, reference[:-1])
    return volume


def _area(points: Sequence[Vector], reference: Vector) -> float:
    area, height = 0.0, reference[1]
    for x, y in sorted(points):
        if y < height:
            area += (reference[0] - x) * (height - y)
            height = y
    return area
