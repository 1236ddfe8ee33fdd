"""Cycles and fabric of a project before synthesis, from the same spatial model that `tetrasim run` simulates.

A project with `--io stream` lets rows flow through FIFOs: `streamed`; with `--io parallel` it is a DATAFLOW
of loops over arrays: `staged`. Both are estimated from the graph; a written streaming project carries the
cycles of its own functions and FIFOs (`pipeline.py`) instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.parts import fabric_of, preset_of
from tetrasim.hw_targets.fpga.lower import MAX_REUSE, Spatial, find_reuse, simulate_design
from tetrasim.hw_targets.fpga.resources import limiting
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.passes.precision import with_precision


@dataclass(frozen=True, slots=True)
class Estimate:
    """Integers are cycles and blocks; `fits` is against the usable share of the device. `latency_cycles` and
    `interval_cycles` are those of the `form` that is emitted."""

    preset: str
    form: str
    latency_cycles: int
    interval_cycles: int
    latency_cycles_staged: int
    interval_cycles_staged: int
    latency_cycles_streamed: int
    interval_cycles_streamed: int
    clock_ns: float
    lut: int
    ff: int
    dsp: int
    bram18: int
    limiting: str
    share: float
    fits: bool
    reuse_that_fits: int

    @property
    def latency_us(self) -> float:
        """Latency of the emitted project."""
        return self.latency_cycles * self.clock_ns / 1000


def with_fitting_reuse(graph: Graph, options: HlsOptions, bits: int) -> HlsOptions:
    """The options with a definite reuse factor: the one asked for; else the smallest power of two that fits
    the part, and 1 where that is not known (no device table, distributed arithmetic) or nothing fits."""
    found = _configured(options, bits)
    if options.reuse or found is None or options.strategy == "distributed_arithmetic":
        return replace(options, reuse=options.reuse or 1)
    reuse = _fitting_reuse(with_precision(graph, found[1].numbers.precision), options, found[1])
    return replace(options, reuse=reuse or 1)


def _fitting_reuse(lowered: Graph, options: HlsOptions, config: FpgaConfig) -> int:
    """The smallest power of two at which the emitted design fits, FIFOs included; 0 when none does.

    The stages alone give the first candidate: FIFOs only add to them."""
    config = with_overrides(config, {"spatial.reuse": 0})
    reuse, _, share = find_reuse(lowered, config)
    while share <= 1:
        share = limiting(_emitted(lowered, reuse, options, config).design.cost_with_fifos(), config)[1]
        if share <= 1:
            return reuse
        reuse *= 2
        share = 0 if reuse <= MAX_REUSE else share
    return 0


def _emitted(lowered: Graph, reuse: int, options: HlsOptions, config: FpgaConfig) -> Spatial:
    form = "streamed" if options.io == "stream" else "staged"
    return simulate_design(lowered, reuse, with_overrides(config, {"spatial.attention": form}))


def _configured(options: HlsOptions, bits: int) -> tuple[str, FpgaConfig] | None:
    """The preset of the options' part and its configuration with the options; None without a preset."""
    name = preset_of(options.part)
    if not name:
        return None
    base = fabric_of(name)
    settings: dict[str, str | int | float] = {
        "numbers.format": "fixed",
        "numbers.bits": bits,
        "numbers.integer_bits": bits // 2,
        "clock_hz": round(1e9 / options.clock_ns),
        "spatial.reuse": options.reuse,
        "spatial.strategy": options.strategy,
    }
    return name, with_overrides(base, settings)


def estimate(graph: Graph, options: HlsOptions, bits: int) -> Estimate | None:
    """The estimate for `options.part`; None when no preset describes the device."""
    options = with_fitting_reuse(graph, options, bits)
    found = _configured(options, bits)
    if found is None:
        return None
    name, config = found
    lowered = with_precision(graph, config.numbers.precision)
    forms = [
        _emitted(lowered, options.reuse, replace(options, io=io), config) for io in ("stream", "parallel")
    ]
    streamed, staged = forms
    emitted = streamed if options.io == "stream" else staged
    cost = emitted.design.cost_with_fifos()
    scarce, share = limiting(cost, config)
    return Estimate(
        preset=name,
        form="streamed" if options.io == "stream" else "staged",
        latency_cycles=emitted.latency_cycles,
        interval_cycles=emitted.interval_cycles,
        latency_cycles_staged=staged.latency_cycles,
        interval_cycles_staged=staged.interval_cycles,
        latency_cycles_streamed=streamed.latency_cycles,
        interval_cycles_streamed=streamed.interval_cycles,
        clock_ns=options.clock_ns,
        lut=ceil(cost.lut),
        ff=ceil(cost.ff),
        dsp=ceil(cost.dsp),
        bram18=ceil(cost.bram18),
        limiting=scarce,
        share=round(share, 4),
        fits=share <= 1,
        reuse_that_fits=options.reuse if share <= 1 else _fitting_reuse(lowered, options, config),
    )
