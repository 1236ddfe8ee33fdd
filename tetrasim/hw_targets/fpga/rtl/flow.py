"""`tetrasim hls --flow da4ml`: Verilog of the dense part of a model by distributed arithmetic, without
vendor tools.

da4ml (github:calad0i/da4ml) turns constant products into shared shift-and-add networks. Covered: products
with
constants, biases, ReLU, element-wise sums, element-wise scaling, re-indexing; a model with anything else is
refused
with the list. The Verilog is run in Verilator (results equal to the emulation, cycles counted) and
synthesised by
Yosys where the tools are there.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError, nearest
from tetrasim.files.write import check_free, new_folder
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.emulate import run_raw
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.parts import check_part, part_number
from tetrasim.hw_targets.fpga.hls.plan import Plan
from tetrasim.hw_targets.fpga.hls.project import sample_inputs
from tetrasim.hw_targets.fpga.hls.vendor import ESTIMATE
from tetrasim.hw_targets.fpga.rtl.fabric import estimate
from tetrasim.hw_targets.fpga.rtl.synth import Counts, synthesise
from tetrasim.hw_targets.fpga.rtl.tools import Tool, need_verilator, run, verilator, yosys
from tetrasim.sim.ir.graph import Graph

TOP = "tetrasim_top"
ADDERS_PER_STAGE = 5  # da4ml's latency cutoff: adder levels between registers
COVERED = (p.Input, p.Dense, p.Relu, p.Binary, p.Affine, p.Select, p.Concat)
Ints = NDArray[np.int64]
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RtlReport:
    """`rtl_exact` and `counts` are None where Verilator or Yosys is missing."""

    folder: str
    latency_cycles: int
    estimated_lut: int
    estimated_ff: int
    rtl_exact: bool | None
    counts: Counts | None

    def text(self) -> str:
        """Lines for the terminal."""
        exact = {
            None: "Verilator not found: not simulated",
            True: "RTL = emulation, bit for bit",
            False: "differs",
        }
        lines = [
            f"latency {self.latency_cycles} cycles, one row every cycle; {exact[self.rtl_exact]}",
            f"estimate: LUT {self.estimated_lut:,}  FF {self.estimated_ff:,}",
        ]
        if self.counts is not None:
            c = self.counts
            lines.append(f"Yosys:    LUT {c.lut:,}  FF {c.ff:,}  DSP {c.dsp}  carry {c.carry}")
        return "\n".join([*lines, f"Verilog in {self.folder}/src"])


@dataclass(frozen=True, slots=True)
class Watch:
    """Says what is being done, and ends the flow when its time is up."""

    limit_s: int
    report: Progress
    started_s: float = field(default_factory=time.monotonic)

    def step(self, what: str, fraction: float) -> int:
        """Announce the step `what`; returns the whole seconds that are left.

        Raises:
            UserError: none is left.
        """
        left_s = self.limit_s - int(time.monotonic() - self.started_s)
        if left_s <= 0:
            raise UserError(
                f"the da4ml flow took more than {self.limit_s} s (before {what})",
                hint="raise --timeout, or use fewer --bits or a smaller model",
            )
        self.report(what, fraction)
        return left_s


def write_rtl(
    graph: Graph,
    folder: Path,
    flow: str,
    options: HlsOptions,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> RtlReport:
    """Write and, where the tools are there, check the Verilog of `graph`.

    `progress` is told each step and the fraction done before it. The whole flow ends after
    `options.timeout_s`: external tools are stopped, da4ml's own search is left at the next layer.

    Raises:
        UserError: unknown flow, layers that distributed arithmetic does not cover, an existing folder, no
            da4ml, or the time is up.
    """
    check_part(options.part)
    watch = Watch(options.timeout_s, progress or _silent)
    if flow != "da4ml":
        raise UserError(f"unknown --flow '{flow}'", hint=nearest(flow, ["da4ml", "hls4ml"]))
    check_free(folder, ESTIMATE, force=force)
    plan = convert(graph)
    refuse_uncovered(plan)
    feeds = sample_inputs(graph, plan, options)
    by_layer = {x.name: feeds[v.name] for x, v in zip(plan.inputs, graph.inputs, strict=True)}
    plan = calibrate(plan, by_layer, Widths(options.bits or 8, options.guard_bits))
    with new_folder(folder.absolute(), replace=True) as scratch:
        report = replace(build(plan, by_layer, options, scratch, watch), folder=str(folder))
        (scratch / ESTIMATE).write_text(json.dumps(asdict(report), indent=1, sort_keys=True) + "\n")
        shutil.rmtree(scratch / "obj", ignore_errors=True)
    return report


def _silent(what: str, fraction: float) -> None:
    """Progress that nobody asked for."""


def refuse_uncovered(plan: Plan) -> None:
    """Raises UserError that lists every layer distributed arithmetic cannot make."""
    if plan.given:
        raise UserError(
            "a quantised file rounds half to even, which distributed arithmetic does not",
            where=plan.name,
            hint="without --flow the hls4ml project takes its types as given",
        )
    bad = [
        x for x in plan.layers if not isinstance(x, COVERED) or (isinstance(x, p.Binary) and x.kind == "mul")
    ]
    if bad:
        listed = "\n".join(f"  - {x.head.node} ({x.head.op})" for x in bad)
        raise UserError(
            f"{len(bad)} layers are not covered by distributed arithmetic:\n{listed}",
            where=plan.name,
            hint="without --flow the hls4ml project covers them",
        )


def build(
    plan: Plan, feeds: Mapping[str, NDArray[np.float64]], options: HlsOptions, folder: Path, watch: Watch
) -> RtlReport:
    """Verilog in `folder`/src, checked and counted."""
    try:
        from da4ml.codegen import VerilogModel
        from da4ml.trace import comb_trace
    except ImportError:
        raise UserError("da4ml was not found", hint="pip install 'tetrasim[rtl]'") from None
    inputs, outputs = _trace(plan, watch)
    watch.step("writing Verilog", 0.5)
    logic = comb_trace(inputs, outputs)
    model = VerilogModel(
        logic,
        TOP,
        folder,
        latency_cutoff=ADDERS_PER_STAGE,
        print_latency=False,
        part_name=part_number(options.part),
        clock_period=options.clock_ns,
    )
    model.write()
    meta = json.loads((folder / "metadata.json").read_text())
    # one register stage per pipeline stage, and one at the output
    latency = int(meta["latency"]) + 1 if "latency" in meta else 0
    exact = None
    if verilator() is not None:
        exact = bool(_simulate(plan, feeds, model._pipe, latency, folder, watch))
    counts = None
    if yosys() is not None:
        sources = sorted(
            str(f.relative_to(folder)) for f in (folder / "src").rglob("*.v") if "wrapper" not in f.name
        )
        left_s = watch.step("counting cells with Yosys (its wheel compiles itself on first use)", 0.8)
        counts = synthesise(sources, TOP, folder, left_s)
    expected = estimate(model._pipe)
    return RtlReport(str(folder), latency, expected.lut, expected.ff, exact, counts)


def _trace(plan: Plan, watch: Watch) -> tuple[Any, Any]:
    """The plan in da4ml's symbolic fixed-point variables: inputs and outputs."""
    from da4ml.trace import FixedVariableArray, HWConfig

    known: dict[str, Any] = {}
    for done, layer in enumerate(plan.layers):
        watch.step(f"sharing the sums of {layer.name}", 0.5 * done / len(plan.layers))
        t, xs = plan.types[layer.name], [known[i] for i in layer.inputs]
        if isinstance(layer, p.Input):
            kif = [np.full(layer.size, v) for v in _kif(t.result)]
            made = FixedVariableArray.from_kif(*kif, HWConfig(1, -1, -1))
        elif isinstance(layer, p.Dense):
            assert t.weight is not None
            assert t.bias is not None
            x = xs[0].reshape(layer.rows, layer.weight.shape[0])
            made = (x @ t.weight.quantise(layer.weight) + t.bias.quantise(layer.bias)).reshape(-1)
        elif isinstance(layer, p.Relu):
            made = xs[0].relu()
        elif isinstance(layer, p.Affine):
            assert t.weight is not None
            fraction = plan.types[layer.inputs[0]].result.fraction + t.weight.fraction
            offset = np.round(layer.offset * 2.0**fraction) / 2.0**fraction
            made = xs[0] * t.weight.quantise(layer.scale) + offset
        elif isinstance(layer, p.Binary):
            made = xs[0] + xs[1] if layer.kind == "add" else xs[0] - xs[1]
        elif isinstance(layer, p.Select):
            if (layer.index < 0).any():
                raise UserError("padding is not covered by distributed arithmetic", where=layer.head.node)
            made = xs[0][layer.index]
        else:
            raise UserError("joining streams is not covered by distributed arithmetic", where=layer.head.node)
        if not isinstance(layer, p.Input):
            sign, whole, part = _kif(t.result)
            made = made.quantize(k=sign, i=whole, f=part, overflow_mode="SAT", round_mode="RND")
        known[layer.name] = made
    return known[plan.inputs[0].name], known[plan.outputs[0]]


def _kif(t: p.Fixed) -> tuple[int, int, int]:
    """da4ml's keep-negative, integer (without sign) and fractional bits."""
    return int(t.signed), t.integer - int(t.signed), t.fraction


def _simulate(
    plan: Plan,
    feeds: Mapping[str, NDArray[np.float64]],
    pipeline: Any,
    latency: int,
    folder: Path,
    watch: Watch,
) -> bool:
    """Rows one after the other through Verilator; the result of row r must be there `latency` cycles
    later."""
    raw = run_raw(plan, feeds)
    rows = min(len(next(iter(raw.values()))), 64)
    given, wanted = plan.inputs[0].name, plan.outputs[0]
    x = _bits(raw[given][:rows], plan.types[given].result, pipeline.inp_qint)
    y = _bits(raw[wanted][:rows], plan.types[wanted].result, pipeline.out_qint)
    (folder / "bench.cpp").write_text(_bench(x, len(y[0]), rows, latency))
    sources = [str(f.relative_to(folder)) for f in (folder / "src").rglob("*.v") if "wrapper" not in f.name]
    flags = ["--cc", "--exe", "--build", "-Wno-fatal", "-Wno-lint", "-CFLAGS", "-O0", "--top-module", TOP]
    left_s = watch.step("compiling the Verilog with Verilator", 0.6)
    run(need_verilator(), [*flags, "-j", "2", "--Mdir", "obj", *sorted(sources), "bench.cpp"], folder, left_s)
    bench = Tool((str((folder / "obj" / f"V{TOP}").resolve()),), "", name="the simulated Verilog")
    said = run(bench, [], folder, watch.step("simulating the Verilog", 0.75))
    return [list(map(int, line)) for line in said.split()] == y


def _bits(raw: Ints, t: p.Fixed, qint: Any) -> list[list[int]]:
    """Each row as the bits of da4ml's packed vector, lowest first: every element in its own minimal width."""
    from da4ml.cmvm.types import _minimal_kif

    widths = [(_minimal_kif(q)) for q in qint]
    out = []
    for row in raw:
        bits: list[int] = []
        for value, (k, i, f) in zip(row, widths, strict=True):
            at = int(value) >> (t.fraction - f) if t.fraction >= f else int(value) << (f - t.fraction)
            bits += [(at >> b) & 1 for b in range(int(k) + int(i) + int(f))]
        out.append(bits)
    return out


def _bench(x: list[list[int]], out_bits: int, rows: int, latency: int) -> str:
    listed = ",\n".join('"' + "".join(map(str, row)) + '"' for row in x)
    width = len(x[0])
    put = "t.model_inp[b / 32] = (t.model_inp[b / 32] & ~(1u << (b % 32))) | (v << (b % 32));"
    if width <= 64:
        put = "t.model_inp = (t.model_inp & ~((uint64_t)1 << b)) | ((uint64_t)v << b);"
    get = "(t.model_out[b / 32] >> (b % 32)) & 1" if out_bits > 64 else "((uint64_t)t.model_out >> b) & 1"
    return f"""#include "V{TOP}.h"
#include "verilated.h"
#include <cstdio>
#include <cstdint>
static const char *X[{rows}] = {{{listed}}};
int main() {{
  V{TOP} t;
  for (int c = 0; c < {rows + latency}; c++) {{
    t.clk = 0;
    if (c < {rows}) for (int b = 0; b < {width}; b++) {{ uint32_t v = X[c][b] - '0'; {put} }}
    t.eval();
    if (c >= {latency}) {{
      for (int b = 0; b < {out_bits}; b++) putchar('0' + (int)({get}));
      putchar('\\n');
    }}
    t.clk = 1; t.eval();
  }}
  return 0;
}}
"""
