"""The gpu target: kernels as tiles on SMs, launch modes, fused attention, power cap. Theory: docs/gpu.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tetrasim.hw_targets.common.target import Peaks, ResourceUse, Target
from tetrasim.hw_targets.gpu.capacity import capacity
from tetrasim.hw_targets.gpu.config import GpuConfig, Number, precision_of
from tetrasim.hw_targets.gpu.device import FORMATS, peak_of
from tetrasim.hw_targets.gpu.errors import error_range
from tetrasim.hw_targets.gpu.explain import explain
from tetrasim.hw_targets.gpu.floor import least_energy
from tetrasim.hw_targets.gpu.lower import lower
from tetrasim.hw_targets.gpu.numerics import arithmetic_of
from tetrasim.hw_targets.gpu.occupancy import counters, mapping_text
from tetrasim.hw_targets.gpu.parts import PARTS
from tetrasim.hw_targets.gpu.price import price
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.metric import ErrorRange
from tetrasim.sim.ops.work import Work

_FORMAT_OF = {
    Number.FLOAT32: "float32",
    Number.TFLOAT32: "tfloat32",
    Number.FLOAT16: "half",
    Number.BFLOAT16: "half",
    Number.FLOAT8: "float8",
    Number.INT8: "int8",
    Number.INT4: "half",
}

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from tetrasim.hw_targets.common.abilities import Calibrated, Calibration, Progress


def peaks(config: GpuConfig) -> Peaks:
    """Data-sheet ceilings at the precision and clock in use."""
    slow = config.slowdown
    return Peaks(
        macs_per_s=peak_of(FORMATS.index(_FORMAT_OF[config.precision]), config) / 2 / slow,
        vector_ops_per_s=config.compute.fp32_flops_per_s * config.peak_scale / slow,
        bytes_per_s=(
            ("L2", config.l2.bandwidth_bytes_per_s / slow),
            ("DRAM", config.dram.bandwidth_bytes_per_s),
        ),
    )


def resources(_graph: Graph, config: GpuConfig) -> tuple[ResourceUse, ...]:
    """A GPU is used whole; the SM count is shown for comparison."""
    return (ResourceUse("SMs", config.sm_count, config.sm_count),)


def _validate() -> Sequence[DataclassInstance]:
    from tetrasim.hw_targets.gpu.validate import validate  # reads the measurements

    return validate()


def _calibrate(wanted: Calibration, progress: Progress) -> Calibrated:
    from tetrasim.hw_targets.gpu.fit.report import calibrated  # needs the fit's search

    return calibrated(wanted, progress)


def _op_range(work: Work, config: GpuConfig) -> ErrorRange | None:
    from tetrasim.hw_targets.gpu.op_errors import op_range  # needs the committed rows

    return op_range(work, config)


TARGET = Target(
    name="gpu",
    title="GPU",
    config_type=GpuConfig,
    precision=precision_of,
    lower=lower,
    capacity=capacity,
    resources=resources,
    peaks=peaks,
    arithmetic=arithmetic_of,
    price=price,
    error_range=error_range,
    parts=PARTS,
    least_energy=least_energy,
    mapping_text=mapping_text,
    counters=counters,
    validate=_validate,
    calibrate=_calibrate,
    explain=explain,
    op_range=_op_range,
)
