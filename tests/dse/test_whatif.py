"""Changes are found by short paths and typed right; differences sum to the change of the total."""

import pytest
from toy_target import toy_result

from tetrasim.dse.diff import difference, grouped, to_text
from tetrasim.dse.whatif import apply_changes, find_path, new_value
from tetrasim.errors import UserError
from tetrasim.flow.setup import set_up


def test_a_short_path_and_a_factor() -> None:
    overrides, applied = apply_changes("gpu/t4", {}, ["dram.bandwidth=1.25x", "sm_count=2x"])
    before = set_up("gpu/t4").config.model_dump()
    assert overrides["dram.bandwidth_bytes_per_s"] == 1.25 * before["dram"]["bandwidth_bytes_per_s"]
    assert overrides["sm_count"] == 2 * before["sm_count"]
    assert isinstance(overrides["sm_count"], int)
    assert [a.path for a in applied] == ["dram.bandwidth_bytes_per_s", "sm_count"]


def test_changes_stack_on_overrides_and_respect_targets() -> None:
    overrides, applied = apply_changes("gpu/t4", {"sm_count": 10}, ["gpu/t4:sm_count=3x", "cpu/x:foo=1"])
    assert overrides == {"sm_count": 30}
    assert len(applied) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("dram.bandwith=2x", "unknown parameter"),
        ("dram=2x", "could be"),
        ("sm_count", "not PATH=VALUE"),
        ("launch=2x", "not a number"),
        ("sm_count=many", "not a number"),
        ("sm_count=inf", "no value of a device"),
        ("sm_count=nan", "no value of a device"),
        ("clock_hz=1e999x", "no value of a device"),
    ],
)
def test_refusals(change: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_changes("gpu/t4", {}, [change])
    assert what in caught.value.what


def test_values_keep_their_type() -> None:
    assert new_value(3, "1.5x", "") == 4
    assert new_value(3.0, "1.5x", "") == 4.5
    assert new_value(True, "false", "") is False
    assert new_value("graph", "eager", "") == "eager"
    assert find_path(set_up("gpu/t4"), "sm_count") == "sm_count"


def test_differences_sum_to_the_total() -> None:
    slow, fast = toy_result(), toy_result(bytes_per_cycle=32)
    found = difference(slow, fast)
    assert found.latency_ns.delta < 0
    for changes in (found.phases_ns, found.parts_ns, found.ops_ns, grouped(found.ops_ns)):
        assert sum(c.delta for c in changes) == pytest.approx(found.latency_ns.delta, rel=1e-9)
    assert sum(c.delta for c in found.components_pj) == pytest.approx(found.energy_pj.delta, rel=1e-9)
    assert "by part of the time" in to_text(found)
    same = difference(slow, slow)
    assert same.latency_ns.delta == 0
    assert "unchanged" in to_text(same)
