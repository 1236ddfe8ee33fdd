"""The range of one op: from shipped rows that no fit has seen, for the very device and class, or none."""

from __future__ import annotations

import numpy as np
import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.gpu.config import GpuConfig
from tetrasim.hw_targets.gpu.measurements import predict
from tetrasim.hw_targets.gpu.op_errors import FEWEST_ROWS, op_range
from tetrasim.hw_targets.gpu.validate import committed, sizes_of
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.metric import ErrorRange
from tetrasim.sim.ops.single import attention_work, matmul_work, vector_work
from tetrasim.sim.ops.work import Work
from tetrasim.sim.precision import BFLOAT16, FLOAT16, FLOAT32


def config_of(preset: str, **changes: str | int) -> GpuConfig:
    config = find_preset(preset)[1].config
    assert isinstance(config, GpuConfig)
    return with_overrides(config, changes)


LARGE = matmul_work(4096, 4096, 4096, BFLOAT16)
FEW = matmul_work(4, 4096, 4096, BFLOAT16)
DECODE = attention_work(1, 1, 32, 8, 128, 4096, True, FLOAT16)


@pytest.mark.parametrize("work", [LARGE, FEW, DECODE], ids=["large", "few rows", "decode"])
def test_most_measured_rows_of_the_class_lie_inside(work: Work) -> None:
    found = op_range(work, config_of("gpu/h100-sxm", precision="bfloat16"))
    assert found is not None
    label, size = found.source.partition("(")[2].partition(")")[0].split(", ")
    (rows,) = [m for m in committed() if (m.preset, m.label) == ("h100-sxm", label)]
    ratio = (rows.latency_us / predict(rows).latency_us)[sizes_of(rows) == size]
    assert len(ratio) >= FEWEST_ROWS
    inside = np.mean((ratio >= found.low_factor) & (ratio <= found.high_factor))
    assert 0.75 <= inside <= 0.9


@pytest.mark.parametrize(
    "config",
    [
        config_of("gpu/h100-sxm", precision="bfloat16", sm_count=100),
        config_of("gpu/h100-sxm", precision="bfloat16", launch="eager"),
        config_of("gpu/h100-sxm", precision="int8"),
        config_of("gpu/b200", precision="bfloat16"),
    ],
    ids=["fewer multiprocessors", "another launch", "a format never measured", "a device never measured"],
)
def test_without_evidence_there_is_no_range(config: GpuConfig) -> None:
    assert op_range(LARGE, config) is None


def test_classes_differ() -> None:
    config = config_of("gpu/h100-sxm", precision="bfloat16")
    ranges = {op_range(work, config) for work in (LARGE, FEW, DECODE)}
    assert len(ranges) == 3
    assert all(isinstance(found, ErrorRange) for found in ranges)
    assert op_range(vector_work("softmax", 64, 64, FLOAT32), config) is None
