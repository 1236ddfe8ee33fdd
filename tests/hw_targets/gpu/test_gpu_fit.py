"""The fit of the GPU calibration: its order, its search, and that it finds what made the measurements."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tetrasim.errors import UserError
from tetrasim.hw_targets.gpu import errors
from tetrasim.hw_targets.gpu.calibration import FILE, calibration, calibration_from
from tetrasim.hw_targets.gpu.fit import files
from tetrasim.hw_targets.gpu.fit.calibrate import (
    START_EAGER_US,
    State,
    chains,
    current,
    fit_table,
    predicted,
    with_params,
)
from tetrasim.hw_targets.gpu.fit.ranges import from_models, left_out
from tetrasim.hw_targets.gpu.fit.search import optimise
from tetrasim.hw_targets.gpu.fit.shared import text
from tetrasim.hw_targets.gpu.fit.start import STARTS, complete, start_calibration
from tetrasim.hw_targets.gpu.fit.tables import TABLES, Table, check_tables
from tetrasim.hw_targets.gpu.fit.unfitted import _linear
from tetrasim.hw_targets.gpu.transfer import ALL, shared_gemm
from tetrasim.hw_targets.gpu.transfer import FILE as SHARED_FILE
from tetrasim.hw_targets.gpu.validate import committed

HALF_H100 = next(t for t in TABLES if (t.preset, t.label) == ("h100-sxm", "gemm half"))


def test_the_fit_starts_from_fixed_values_and_fits_heirs_after_their_parents() -> None:
    found = chains(TABLES)
    assert sorted(map(id, (t for chain in found for t in chain))) == sorted(map(id, TABLES))
    for chain in found:
        done: set[tuple[str, str]] = set()
        for table in chain:
            assert not table.inherits or (table.inherits, table.label) in done
            done.add((table.preset, table.label))
    assert {State(start_calibration(p)).eager_us for p in STARTS} == {START_EAGER_US}


@pytest.mark.parametrize("table", TABLES, ids=lambda t: f"{t.preset} {t.label}")
def test_parameters_are_set_and_read_back_by_name(table: Table) -> None:
    state = State(start_calibration(table.preset))
    middle = {n: (low + high) / 2 for n, (low, high) in table.bounds.items()}
    found = current(with_params(state, table, middle), table)
    assert {n: found[n] for n in middle} == middle


def test_the_search_finds_a_minimum_and_stays_within_bounds() -> None:
    goal = {"a": 3.0, "b": 0.02}

    def loss(x: Mapping[str, float]) -> float:
        return sum(abs(float(np.log(x[n] / goal[n]))) for n in goal)

    bounds = {"a": (0.1, 10.0), "b": (0.05, 1.0)}
    start = {"a": 1.0, "b": 0.5, "c": 7.0}
    found = optimise(loss, start, bounds, 600, 0)
    assert found["a"] == pytest.approx(3.0, rel=0.02)
    assert found["b"] == 0.05  # the bound nearest to the goal
    assert found["c"] == 7.0
    assert found == optimise(loss, start, bounds, 600, 0)


def test_a_fit_recovers_the_kernels_that_made_the_rows() -> None:
    """Rows priced with known parameters, fitted from others: the error on sites left out falls by half."""
    rows = next(m for m in committed() if (m.preset, m.label) == ("h100-sxm", "gemm half"))
    truth = State(calibration("h100-sxm"))
    made = replace(rows, latency_us=predicted(rows, truth).latency_us, power_w=None)
    start = State(start_calibration("h100-sxm"))
    before = np.abs(predicted(made, start).latency_us / made.latency_us - 1).mean()
    done, line = fit_table(HALF_H100, made, start, 150)
    test = made.take(np.flatnonzero(left_out(made)))
    after = np.abs(predicted(test, done).latency_us / test.latency_us - 1).mean()
    assert after < 0.5 * before
    assert f"left out {after:6.1%}" in line


def test_entries_that_ship_are_those_that_a_fit_writes() -> None:
    """Families and borrowed parts follow from the measured devices; what ships reads back unchanged."""
    shipped = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    for name, tree in shipped.items():
        found = files.tree_of(calibration_from(tree))
        for op_class, parts in tree.items():
            for part, values in parts.items():
                assert {n: found[op_class][part][n] for n in values} == values, (name, op_class, part)
    done = complete({preset: calibration(preset) for preset in STARTS}, shared_gemm())
    assert list(done) == list(shipped)
    for preset in STARTS:
        assert files.tree_of(done[preset])["device"] == shipped[preset]["device"]
        assert files.tree_of(done[preset])["power"] == shipped[preset]["power"]
    assert FILE.read_text(encoding="utf-8").startswith(files.CALIBRATION_HEAD)


def test_the_shared_parameters_read_back_unchanged() -> None:
    names = yaml.safe_load(SHARED_FILE.read_text(encoding="utf-8"))
    assert ALL in names
    assert text({name: shared_gemm(name) for name in names}) == SHARED_FILE.read_text(encoding="utf-8")


def test_ranges_of_whole_models_are_kept() -> None:
    kept = from_models(errors.shipped())
    found = {preset: set(numbers) for preset, numbers in kept.items()}
    assert found == {"t4": {"half"}, "v100-pcie-32gb": {"half"}}


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not there: aic_attn_context"):
        check_tables(tmp_path)


def test_layers_of_other_tables_become_products() -> None:
    row = {"model": "Meta-Llama-3-8B", "num_tokens": "7", "n_embd": "4096", "n_head": "32", "n_kv_head": "8"}
    row |= {"use_gated_mlp": "True", "latency_us": "5.0"}
    shapes = {
        op: _linear(row | {"op": op}) for op in ("attn_pre_proj", "mlp_up_proj", "mlp_down_proj", "add")
    }
    assert (shapes["attn_pre_proj"]["n"], shapes["attn_pre_proj"]["k"]) == ("6144", "4096")
    assert (shapes["mlp_up_proj"]["n"], shapes["mlp_down_proj"]["k"]) == ("28672", "14336")
    assert shapes["add"] == {}
