"""The range of one kernel rests on committed rows of its class, or there is none."""

import numpy as np
import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.gpu.measurements import predict, preset_config
from tetrasim.hw_targets.gpu.op_errors import op_range
from tetrasim.hw_targets.gpu.validate import committed
from tetrasim.sim.ops.single import attention_work, matmul_work, vector_work
from tetrasim.sim.precision import FLOAT16, FLOAT32

H100 = preset_config("h100-sxm")
PRODUCT = matmul_work(128, 4096, 4096, FLOAT16)


def test_rows_of_every_class_can_be_taken() -> None:
    for rows in committed():
        few = rows.take(np.arange(3))
        assert len(few.latency_us) == 3
        assert predict(few).latency_us == pytest.approx(predict(rows).latency_us[:3])


def test_eight_of_ten_rows_lie_in_the_range_of_their_class() -> None:
    found = op_range(PRODUCT, H100)
    assert found is not None
    assert "gemm half" in found.source
    rows = next(r for r in committed() if (r.preset, r.label) == ("h100-sxm", "gemm half"))
    ratio = rows.latency_us / predict(rows).latency_us
    inside = ((ratio >= found.low_factor) & (ratio <= found.high_factor)).mean()
    assert 0.75 <= inside <= 0.9


def test_there_is_no_range_without_rows_of_the_class() -> None:
    assert op_range(PRODUCT, preset_config("a10")) is None  # a device never measured
    assert op_range(PRODUCT, with_overrides(H100, {"sm_count": 100})) is None
    assert op_range(PRODUCT, with_overrides(H100, {"launch": "eager"})) is None
    assert op_range(vector_work("softmax", 64, 512, FLOAT16), H100) is None
    assert op_range(matmul_work(128, 128, 128, FLOAT32), preset_config("t4")) is None  # measured eager
    eager = with_overrides(preset_config("t4"), {"launch": "eager", "precision": "float32"})
    assert op_range(matmul_work(128, 128, 128, FLOAT32), eager) is not None
    decode = attention_work(1, 1, 32, 8, 128, 4096, True, FLOAT16)
    assert op_range(decode, H100) is not None
