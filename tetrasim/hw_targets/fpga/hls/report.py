"""What `tetrasim hls` says about a project: the error of every layer, the proof, the estimate."""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.hw_targets.fpga.hls.calibrate import Widths
from tetrasim.hw_targets.fpga.hls.check import LayerNumerics, Numerics
from tetrasim.hw_targets.fpga.hls.estimate import Estimate
from tetrasim.hw_targets.fpga.hls.options import HlsOptions


@dataclass(frozen=True, slots=True)
class HlsReport:
    """What was written, how exact it is, how fast and large it should be."""

    folder: str
    model: str
    layers: int
    options: HlsOptions
    widths: Widths
    numerics: Numerics
    estimate: Estimate | None


def text(report: HlsReport) -> str:
    """Layers, proof, estimate."""
    n = report.numerics
    lines = [f"{'layer':<36} {'op':<19} {'type':<22} {'range':>9} {'max error':>9} {'of range':>8}"]
    lines += [_row(r) for r in n.layers]
    said = "C simulation not run" if n.bit_exact is None else "C simulation = emulation, bit for bit,"
    lines += [
        "",
        f"{said} on {n.samples} inputs",
        f"against {n.reference}: max error {n.max_error:.4g} ({n.relative:.2%} of the output range)",
        f"mean error {n.mean_error:.3g}, argmax agreement {n.argmax:.1%}",
        f"conversion alone (real numbers): max error {n.conversion_error:.2g}",
    ]
    if n.first_loss:
        lines.append(f"first layer that loses accuracy: {n.first_loss}")
    return "\n".join([*lines, *_estimate_lines(report), f"project in {report.folder}"])


def _estimate_lines(report: HlsReport) -> list[str]:
    e = report.estimate
    if e is None:
        return [f"no device table for {report.options.part}: no estimate"]
    fits = "fits" if e.fits else "does not fit"
    fifos = f"{e.latency_cycles_streamed} cycles, one result every {e.interval_cycles_streamed}"
    return [
        f"estimate on {e.preset}: {e.latency_cycles_staged} cycles = {e.latency_us:.3f} us",
        f"one result every {e.interval_cycles_staged} cycles; the same layers joined by FIFOs: {fifos}",
        f"LUT {e.lut:,}  FF {e.ff:,}  DSP {e.dsp:,}  BRAM18 {e.bram18:,}",
        f"{fits}: {e.limiting} at {e.share:.0%} of the usable fabric; "
        + (f"reuse {e.reuse_that_fits} fits" if e.reuse_that_fits else "no reuse factor fits"),
    ]


def _row(r: LayerNumerics) -> str:
    numbers = f"{r.real_range:>9.4g} {r.max_error:>9.3g} {r.relative:>8.2%}"
    return f"{r.layer[:36]:<36} {r.op[:19]:<19} {r.type:<22} {numbers}"
