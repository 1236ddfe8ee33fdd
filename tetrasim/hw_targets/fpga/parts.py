"""What an FPGA spends time on in its two mappings, and what helps against it. Theory: docs/fpga.md."""

from __future__ import annotations

from tetrasim.hw_targets.common.parts import change, part_names
from tetrasim.hw_targets.common.target import Advice, Part
from tetrasim.hw_targets.fpga.config import FpgaConfig


def _engine(c: FpgaConfig) -> tuple[Advice, ...]:
    """A wider engine, and faster memory where that would otherwise become what it waits for."""
    wider = ("overlay.columns", 2 * c.overlay.columns)
    consumed = 2 * c.overlay.macs_per_cycle * c.numbers.storage.bits / 8  # weight bytes per cycle
    if c.off_chip is None or consumed <= c.bytes_per_cycle:
        return (Advice("build a wider engine", (wider,)),)
    faster = ("off_chip.bandwidth_bytes_per_s", 2 * c.off_chip.bandwidth_bytes_per_s)
    return (Advice("build a wider engine, with memory that keeps up with it", (wider, faster)),)


def _padding(c: FpgaConfig) -> tuple[Advice, ...]:
    if c.overlay.columns < 2:
        return ()
    return (
        Advice(
            f"choose widths that are multiples of {c.overlay.columns}, or a taller and narrower engine",
            (
                ("overlay.columns", c.overlay.columns // 2),
                ("overlay.dot_length", 2 * c.overlay.dot_length),
            ),
        ),
    )


def _bandwidth(c: FpgaConfig) -> tuple[Advice, ...]:
    if c.off_chip is None:
        return ()
    faster = 2 * c.off_chip.bandwidth_bytes_per_s
    return change("take memory of more bandwidth", "off_chip.bandwidth_bytes_per_s", faster)


def _weights(c: FpgaConfig) -> tuple[Advice, ...]:
    stored = c.numbers.weight_bits or c.numbers.storage.bits
    fewer = change("store weights in fewer bits", "numbers.weight_bits", 4.0) if stored > 4 else ()
    return (*fewer, *_bandwidth(c))


def _access(c: FpgaConfig) -> tuple[Advice, ...]:
    if c.off_chip is None or not c.off_chip.latency_ns:
        return ()
    return change("prefetch the next op's weights, or take memory that answers sooner",
                  "off_chip.latency_ns", c.off_chip.latency_ns / 2)  # fmt: skip


def _vectors(c: FpgaConfig) -> tuple[Advice, ...]:
    lanes = (
        ("overlay.vector_lanes", 2 * c.overlay.vector_lanes),
        ("overlay.function_lanes", 2 * c.overlay.function_lanes),
    )
    return (Advice("add lanes to the vector unit", lanes),)


def _movement(c: FpgaConfig) -> tuple[Advice, ...]:
    return change("move more elements per cycle", "overlay.vector_lanes", 2 * c.overlay.vector_lanes)


def _control(c: FpgaConfig) -> tuple[Advice, ...]:
    if not c.overlay.control_cycles:
        return ()
    return change("fuse small ops, or decode instructions ahead", "overlay.control_cycles",
                  c.overlay.control_cycles // 2)  # fmt: skip


def _interval(c: FpgaConfig) -> tuple[Advice, ...]:
    if c.spatial.reuse > 1:
        return change("use each multiplier for fewer products", "spatial.reuse", c.spatial.reuse // 2)
    text = "run at a higher clock, where timing closes, or take a part that fits a smaller reuse factor"
    return change(text, "clock_hz", round(1.25 * c.clock_hz))


def _pressure(c: FpgaConfig) -> tuple[Advice, ...]:
    return change("let a search size the FIFOs", "spatial.fifo_depth", 0) if c.spatial.fifo_depth else ()


OVERLAY: tuple[Part[FpgaConfig], ...] = (
    Part("MAC array", _engine),
    Part("MAC padding", _padding),
    Part("off-chip weights", _weights),
    Part("off-chip KV cache", _bandwidth),
    Part("off-chip access", _access),
    Part("vector arithmetic", _vectors),
    Part("on-chip movement", _movement),
    Part("control", _control),
)
SPATIAL: tuple[Part[FpgaConfig], ...] = (
    Part("initiation interval", _interval),
    Part("back-pressure", _pressure),
    Part("FIFO", lambda _: ()),  # a cycle to write and one to read: nothing shortens it
)
OVERLAY_NAMES, SPATIAL_NAMES = part_names(OVERLAY), part_names(SPATIAL)
PARTS: tuple[Part[FpgaConfig], ...] = (*OVERLAY, *SPATIAL)
