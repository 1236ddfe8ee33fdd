"""What a GPU spends time on, and what helps against it. Theory: docs/gpu.md."""

from __future__ import annotations

from tetrasim.hw_targets.common.parts import change, part_names
from tetrasim.hw_targets.common.target import Advice, Part
from tetrasim.hw_targets.gpu.calibration import calibration_of
from tetrasim.hw_targets.gpu.config import Fusion, GpuConfig, Launch, Number
from tetrasim.hw_targets.gpu.device import FLOAT32
from tetrasim.hw_targets.gpu.kernels.gemm import ALWAYS_BEST

_WIDE = (Number.FLOAT32, Number.TFLOAT32)
_HALF = (Number.FLOAT16, Number.BFLOAT16)


def _launches(c: GpuConfig) -> tuple[Advice, ...]:
    if c.launch is not Launch.GRAPH:
        return change("record the kernels once and replay them as a graph", "launch", "graph")
    return change("start the graph less often, for more requests at once (--batch), or from a faster host",
                  "host.stream_launch_s", c.host.stream_launch_s / 2)  # fmt: skip


def _starts(c: GpuConfig) -> tuple[Advice, ...]:
    if c.launch is Launch.EAGER:
        return change("let a library fuse element-wise ops into the kernels before them", "launch", "graph")
    if c.fusion is not Fusion.FULL:
        return change("fuse element-wise ops into the kernels before them", "fusion", "full")
    return ()


def _compute(c: GpuConfig) -> tuple[Advice, ...]:
    units = c.compute
    clock = change("run at the boost clock", "running_clock_hz", 0) if c.running_clock_hz else ()
    narrower = "multiply in a format that has faster units"
    if c.precision is Number.FLOAT32 and units.tf32_flops_per_s > units.fp32_flops_per_s:
        return (*clock, *change(narrower, "precision", "tfloat32"))
    if c.precision in _WIDE:
        return (*clock, *change(narrower, "precision", "bfloat16" if units.bf16_flops_per_s else "float16"))
    if c.precision in (*_HALF, Number.INT4) and units.fp8_flops_per_s:
        return (*clock, *change(narrower, "precision", "float8"))
    if c.precision in (*_HALF, Number.INT4) and units.int8_ops_per_s:
        return (*clock, *change(narrower, "precision", "int8"))
    return clock


def _tiles(c: GpuConfig) -> tuple[Advice, ...]:
    """The library's heuristic misses the best tile only where the fit of its choices says so."""
    chosen = calibration_of(c).gemm[FLOAT32].choice < ALWAYS_BEST
    if c.precision is Number.FLOAT32 and chosen and not c.tuned_products:
        return change(
            "time the tiles of each product beforehand and take the fastest", "tuned_products", True
        )
    return ()


def _memory(c: GpuConfig) -> tuple[Advice, ...]:
    faster = (
        ("dram.bandwidth_bytes_per_s", 2 * c.dram.bandwidth_bytes_per_s),
        ("l2.bandwidth_bytes_per_s", 2 * c.l2.bandwidth_bytes_per_s),
    )
    return (*_fewer_bits(c), Advice("take memory and L2 of more bandwidth", faster))


def _fewer_bits(c: GpuConfig) -> tuple[Advice, ...]:
    text = "store weights in fewer bits, or share their reading among more requests (--batch)"
    if c.precision in _WIDE:
        return change(text, "precision", "bfloat16" if c.compute.bf16_flops_per_s else "float16")
    return () if c.precision is Number.INT4 else change(text, "precision", "int4")


def _power(c: GpuConfig) -> tuple[Advice, ...]:
    return (*_compute(c)[-1:], *change("allow the board more power", "power.cap_w", 1.25 * c.power.cap_w))


def _link(c: GpuConfig) -> tuple[Advice, ...]:
    """Weights that the device's memory does not hold are streamed."""
    return (
        *_fewer_bits(c),
        *change("keep the weights on the device: one with more memory", "dram.bytes", 2 * c.dram.bytes),
    )


HOST_LAUNCH = Part("host launch", _launches)
HOST_LINK = Part("host link", _link)
# The time of a kernel alone.
KERNEL = (
    Part("kernel start", _starts),
    Part("compute", _compute),
    Part("tiles and waves", _tiles),
    Part("memory", _memory),
    Part("imperfect overlap", _tiles),
    Part("power cap", _power),
)
KERNEL_PARTS = part_names(KERNEL)
PARTS: tuple[Part[GpuConfig], ...] = (HOST_LAUNCH, *KERNEL, HOST_LINK)
