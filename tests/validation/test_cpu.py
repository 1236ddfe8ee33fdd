"""The cpu model's error on committed measurements stays inside its gates, class by class."""

from __future__ import annotations

import math

import pytest

from tetrasim.hw_targets.cpu.errors import FILE
from tetrasim.hw_targets.cpu.validate import GATES, ValidationRow, error_table, host_rows, validate
from tetrasim.hw_targets.cpu.validation.ncnn import ncnn_rows


@pytest.fixture(scope="module")
def table() -> dict[str, ValidationRow]:
    return {row.what: row for row in validate() if row.device == "host, one thread"}


@pytest.mark.parametrize("group", GATES)
def test_a_calibrated_host_is_inside_its_gates(table: dict[str, ValidationRow], group: str) -> None:
    row = table[group]
    error = row.median_error if group == "other ops" else row.mean_error
    assert error <= GATES[group]


def test_several_threads_are_a_class_of_their_own_and_not_far_off() -> None:
    several = {row.what: row for row in validate() if row.device == "host, several threads"}
    assert {"BERT block", "GPT-2 decode", "GEMM"} <= set(several)
    assert several["BERT block"].mean_error < 0.15
    assert several["GPT-2 decode"].mean_error < 0.25


def test_every_class_was_measured(table: dict[str, ValidationRow]) -> None:
    assert set(GATES) <= set(table)
    assert table["BERT block"].rows == 3
    assert table["GPT-2 decode"].rows == 4
    assert all(row.measured_us > 0 and row.predicted_us > 0 for row in host_rows())


def test_error_ranges_in_use_are_those_of_the_table() -> None:
    assert FILE.read_text(encoding="utf-8") == error_table()


def test_processors_of_others_at_few_threads() -> None:
    # One factor for the other runtime, from the other devices: within a factor of two everywhere.
    few = [row for row in ncnn_rows() if row.threads <= 8]
    assert len({row.device for row in few}) >= 5
    assert all(abs(math.log(row.predicted_ms / row.measured_ms)) < math.log(2) for row in few)
    assert sum(abs(row.error) for row in few) / len(few) < 0.35
