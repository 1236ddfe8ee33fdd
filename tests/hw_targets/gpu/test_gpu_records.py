"""Compiled loops read their parameters by name: the order of the fields of a class cannot change a result."""

from dataclasses import asdict, field, fields, make_dataclass
from typing import Any

import numpy as np
import pytest

from tetrasim.hw_targets.gpu.calibration import calibration
from tetrasim.hw_targets.gpu.device import FORMATS, HALF, device_of
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels import gemm, vector
from tetrasim.hw_targets.gpu.kernels.records import Records, array, empty, records, row
from tetrasim.hw_targets.gpu.measurements import preset_config
from tetrasim.hw_targets.gpu.residency import Operands, dram_traffic

FIT = calibration("h100-sxm")
H100 = device_of(preset_config("h100-sxm"))


def shuffled(rows: list[Any], seed: int) -> Records[Any]:
    """The rows as records of a class with the same fields in another order."""
    names = np.random.default_rng(seed).permutation([f.name for f in fields(rows[0])]).tolist()
    kinds = {f.name: str(f.type) for f in fields(rows[0])}
    other = make_dataclass("Other", [(n, kinds[n], field()) for n in names])
    return records(other, [other(**asdict(r)) for r in rows])


@pytest.mark.parametrize("seed", range(3))
def test_gemm_parameters_may_stand_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = np.concatenate([np.ones((40, 1), np.int64), rng.integers(1, 5000, (40, 3))], axis=1)
    formats = rng.integers(0, len(FORMATS), 40)
    rows = gemm.GemmRows(shape, np.full((40, 2), 16), formats, rng.integers(0, 2, 40) > 0)
    sizes = [2.0 * shape[:, i] * shape[:, j] for i, j in ((1, 3), (2, 3), (1, 2))]
    traffic = dram_traffic(Operands(*sizes), H100.l2_bytes, 0.5, 0.1, None)
    straight = gemm.time_gemms(rows, traffic, H100, records(gemm.GemmFit, FIT.gemm))
    other = gemm.time_gemms(rows, traffic, H100, shuffled(list(FIT.gemm), seed))
    assert array(straight).tobytes() == array(other).tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_attention_and_vector_parameters_may_stand_in_any_order(seed: int) -> None:
    shape = np.array([[4, q, 32, 8, 128, 128, 4096, causal, 0] for q in (1, 512) for causal in (0, 1)])
    rows = att.AttentionRows(shape, np.full(4, 16), np.full(4, HALF))
    dram = np.full(4, 1e8)
    schedules = (att.FLASH2, att.FLASH_DECODING, att.LEAN)
    straight = att.time_attentions(rows, dram, schedules, H100, records(att.AttentionFit, FIT.attention))
    other = att.time_attentions(rows, dram, schedules, H100, shuffled(list(FIT.attention), seed))
    assert array(straight).tobytes() == array(other).tobytes()
    streams = vector.VectorRows(np.array([1e7, 2e6]), np.array([1e6, 1e8]), np.array([0.0, 1024.0]))
    a = vector.time_vectors(streams, np.array([1e7, 0.0]), H100, FIT.streams)
    b = vector.time_vectors(streams, np.array([1e7, 0.0]), H100, shuffled([FIT.vector], seed))
    assert array(a).tobytes() == array(b).tobytes()


def test_a_row_comes_back_as_its_class() -> None:
    table = empty(gemm.GemmTime, 2)
    array(table)["tile_m"] = [64, 128]
    assert row(gemm.GemmTime, table, 1).tile_m == 128
    assert row(gemm.GemmFit, records(gemm.GemmFit, FIT.gemm), HALF) == FIT.gemm[HALF]
