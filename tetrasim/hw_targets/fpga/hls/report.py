"""What `tetrasim hls` says about a project: the error of every layer, the proof, the estimate."""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.hw_targets.fpga.hls.calibrate import Widths
from tetrasim.hw_targets.fpga.hls.check import LayerNumerics, Numerics
from tetrasim.hw_targets.fpga.hls.estimate import Estimate
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.pipeline import Pipeline


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
    pipeline: Pipeline | None  # of a streaming project: every FIFO with its depth


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
    if n.steps >= 0:
        same = (
            "every output is the same integer" if n.steps == 0 else f"{n.same_steps:.3%} of the outputs are"
        )
        lines.append(
            f"quantised outputs: {same}" + ("" if n.steps == 0 else f" equal, {n.steps} steps at most")
        )
    if n.first_loss:
        lines.append(f"first layer that loses accuracy: {n.first_loss}")
    return "\n".join([*lines, *_estimate_lines(report), f"project in {report.folder}"])


def _estimate_lines(report: HlsReport) -> list[str]:
    e, made = report.estimate, report.pipeline
    fifos = []
    if made is not None:
        deepest = max(made.fifos, key=lambda f: f.depth)
        depth = f"the deepest holds {deepest.depth} rows after {deepest.layer}"
        fifos = [f"{len(made.fifos)} streams, {made.fifo_bits:,} bits of FIFO; {depth}"]
    if e is None:
        return [*fifos, f"no device table for {report.options.part}: no estimate"]
    fits = "fits" if e.fits else "does not fit"
    other_reuse = "" if e.fits else "; no reuse factor fits"
    if e.reuse_that_fits != report.options.reuse and e.reuse_that_fits:
        other_reuse = f"; reuse {e.reuse_that_fits} fits"
    how = "rows through FIFOs" if e.form == "streamed" else "arrays from loop to loop"
    other = "" if e.form == "streamed" else _streamed_instead(e)
    latency = f"{e.latency_cycles} cycles = {e.latency_us:.3f} us"
    used = f"{e.limiting} at {e.share:.0%} of the usable fabric"
    return [
        f"estimate on {e.preset}, {how}: {latency}, one result every {e.interval_cycles}{other}",
        *fifos,
        f"LUT {e.lut:,}  FF {e.ff:,}  DSP {e.dsp:,}  BRAM18 {e.bram18:,}",
        f"reuse {report.options.reuse} {fits}: {used}{other_reuse}",
    ]


def _streamed_instead(e: Estimate) -> str:
    return f" (--io stream: {e.latency_cycles_streamed} cycles, every {e.interval_cycles_streamed})"


def _row(r: LayerNumerics) -> str:
    numbers = f"{r.real_range:>9.4g} {r.max_error:>9.3g} {r.relative:>8.2%}"
    return f"{r.layer[:36]:<36} {r.op[:19]:<19} {r.type:<22} {numbers}"
