"""The GPU model stays within its accuracy on measurements that were left out of its fit."""

import pytest

from tetrasim.hw_targets.gpu.validate import MUST, ErrorRow, validate


@pytest.fixture(scope="module")
def rows() -> list[ErrorRow]:
    return validate()


def test_every_class_has_measurements(rows: list[ErrorRow]) -> None:
    assert {row.op_class for row in rows} == set(MUST)


def test_errors_stay_below_the_limits(rows: list[ErrorRow]) -> None:
    over = [row for row in rows if row.must_percent is not None and row.mape_percent > row.must_percent]
    assert not over


def test_there_is_enough_to_judge_by(rows: list[ErrorRow]) -> None:
    few = ("matmul half",)  # short published tables
    assert all(row.rows >= 50 for row in rows if row.size_class == "all" and row.op_class not in few)
    assert sum(row.rows for row in rows if row.size_class == "all") > 5000
