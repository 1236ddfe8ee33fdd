"""Every operator has a price on every target: a random node of each is simulated, without numerics."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import test_operator_conformance
from random_operators import GENERATORS, Draw

from tetrasim.flow.loading import find_model, load_model
from tetrasim.flow.request import workload_for
from tetrasim.flow.setup import Setup, set_up
from tetrasim.flow.simulate import simulate

TARGETS = ("pim/pim-gpt", "gpu/a100-sxm4-80gb", "cpu/xeon-6154", "fpga/u280")


@cache
def setups() -> tuple[Setup, ...]:
    return tuple(set_up(name) for name in TARGETS)


@pytest.mark.parametrize("op", sorted(GENERATORS))
def test_operator_has_a_price_on_every_target(op: str, tmp_path: Path) -> None:
    d = Draw(np.random.default_rng(3))
    for i, generator in enumerate(GENERATORS[op]):
        drawn = generator(d)
        while test_operator_conformance.expected(drawn) is None:
            drawn = generator(d)
        path = tmp_path / f"drawn{i}.onnx"
        path.write_bytes(drawn.model().SerializeToString())
        files = find_model(path)
        workload = workload_for(files, None, 0, 1, None)
        model = load_model(files, workload)
        for setup in setups():
            result = simulate(model, setup, workload, numerics=False)
            assert result.latency.value is not None
            assert result.latency.value >= 0
            assert not result.coverage.unmodelled
