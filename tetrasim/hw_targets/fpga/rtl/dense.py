"""A dense layer with a reuse factor as Verilog: the ground truth for reuse above 1 without vendor tools.

`n_in * n_out / reuse` multipliers; in cycle c of a row, slice c of the inputs meets its weights. Registers
after the
input, the products, each level of the adder tree and the accumulator: the result is valid reuse + 3 cycles
after the
row was accepted (a cycle more per tree level beyond the first), and a new row is accepted every `reuse`
cycles.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.rtl.tools import need_verilator, run

Ints = NDArray[np.int64]
PIPELINE_CYCLES = 3
ROM_ENTRIES = 8
ROM_TRIM = 0.9
CONTROL_LUT = 12
CONTROL_FF = 12
ACCUMULATOR_LUT = 2  # per bit: the adder's, and the multiplexer that starts a row


@dataclass(frozen=True, eq=False)
class DenseDesign:
    """Integer weights [n_in, n_out] of `weight_bits`, inputs of `input_bits`; `reuse` divides n_in."""

    weight: Ints
    input_bits: int
    weight_bits: int
    reuse: int

    @property
    def n_in(self) -> int:
        return int(self.weight.shape[0])

    @property
    def n_out(self) -> int:
        return int(self.weight.shape[1])

    @property
    def lanes(self) -> int:
        """Multipliers per output."""
        return self.n_in // self.reuse

    @property
    def output_bits(self) -> int:
        """Width that holds every sum."""
        return self.input_bits + self.weight_bits + ceil(log2(max(self.n_in, 2)))

    @property
    def latency(self) -> int:
        """Cycles from accepting a row to its valid result."""
        return self.reuse + PIPELINE_CYCLES + self.extra_levels

    @property
    def extra_levels(self) -> int:
        """Registers of the adder tree before its last level."""
        return max(ceil(log2(max(self.lanes, 2))) - 1, 0)

    def check(self) -> None:
        """Raises UserError when the reuse factor does not divide the inputs."""
        if self.reuse < 1 or self.n_in % self.reuse:
            raise UserError(f"reuse {self.reuse} does not divide {self.n_in} inputs")

    def run(self, x: Ints) -> Ints:
        """What the hardware computes: exact integer products."""
        return np.asarray(x.astype(np.int64) @ self.weight)


def dense_verilog(d: DenseDesign) -> str:
    """Module `dense`: `start` accepts `x`; `valid` marks `y`."""
    d.check()
    xb, wb, ob, lanes = d.input_bits, d.weight_bits, d.output_bits, d.lanes
    count = max(ceil(log2(max(d.reuse, 2))), 1)
    pb, sb = xb + wb, xb + wb + ceil(log2(max(lanes, 2)))
    out = [
        "module dense (input wire clk, input wire rst, input wire start,",
        f"    input wire [{d.n_in * xb - 1}:0] x, output wire ready, output reg valid,",
        f"    output wire [{d.n_out * ob - 1}:0] y);",
        f"reg [{d.n_in * xb - 1}:0] held; reg [{count - 1}:0] at; reg busy;",
        f"reg [{d.extra_levels + 2}:0] first, last;",
        f"wire final_slice = busy && at == {d.reuse - 1};",
        "assign ready = !busy || final_slice;",
        "always @(posedge clk) begin",
        "    if (rst) begin busy <= 0; at <= 0; first <= 0; last <= 0; valid <= 0; end",
        "    else begin",
        "        if (start && ready) begin held <= x; busy <= 1; at <= 0; end",
        "        else if (final_slice) begin busy <= 0; at <= 0; end",
        "        else if (busy) at <= at + 1'b1;",
        f"        first <= {{first[{d.extra_levels + 1}:0], busy && at == 0}};",
        f"        last <= {{last[{d.extra_levels + 1}:0], final_slice}};",
        f"        valid <= last[{d.extra_levels + 1}];",
        "    end",
        "end",
    ]
    out += [f"reg signed [{xb - 1}:0] s{k};" for k in range(lanes)]
    for k in range(lanes):
        picks = [f"{c}: s{k} = held[{(c * lanes + k) * xb} +: {xb}];" for c in range(d.reuse)]
        out.append(f"always @(*) case (at) {' '.join(picks)} default: s{k} = 0; endcase")
    for j in range(d.n_out):
        names = []
        for k in range(lanes):
            words = [f"{c}: w{j}_{k} = {_word(int(d.weight[c * lanes + k, j]), wb)};" for c in range(d.reuse)]
            out += [
                f"reg signed [{wb - 1}:0] w{j}_{k}; reg signed [{pb - 1}:0] p{j}_{k};",
                f"always @(*) case (at) {' '.join(words)} default: w{j}_{k} = 0; endcase",
                f"always @(posedge clk) p{j}_{k} <= s{k} * w{j}_{k};",
            ]
            names.append(f"p{j}_{k}")
        out += [
            f"reg signed [{sb - 1}:0] t{j}; reg signed [{ob - 1}:0] a{j};",
            *_tree(names, pb, j),
            f"always @(posedge clk) a{j} <= first[{d.extra_levels + 1}] ? t{j} : a{j} + t{j};",
            f"assign y[{j * ob} +: {ob}] = a{j};",
        ]
    return "\n".join([*out, "endmodule", ""])


def _word(value: int, bits: int) -> str:
    return f"-{bits}'sd{-value}" if value < 0 else f"{bits}'sd{value}"


def _tree(names: list[str], bits: int, j: int) -> list[str]:
    """A balanced adder tree, a register per level; the last level is register t<j>. Registers between the
    levels
    also stop Yosys from merging the tree into carry-save compressors, which take twice the LUTs of carry
    chains."""
    lines, level = [], 0
    while len(names) > 2:
        level += 1
        made = []
        for i in range(0, len(names), 2):
            reg = f"u{j}_{level}_{i // 2}"
            value = " + ".join(names[i : i + 2])
            lines.append(f"reg signed [{bits + level - 1}:0] {reg}; always @(posedge clk) {reg} <= {value};")
            made.append(reg)
        names = made
    return [*lines, f"always @(posedge clk) t{j} <= {' + '.join(names)};"]


@dataclass(frozen=True, eq=False)
class DenseRun:
    """Results [rows, n_out], the cycle each was valid and the cycle each row was accepted."""

    results: Ints
    accepted: tuple[int, ...]
    valid: tuple[int, ...]


def simulate_dense(d: DenseDesign, x: Ints, folder: Path) -> DenseRun:
    """Feed rows back to back in Verilator.

    Raises:
        UserError: no Verilator, or it failed.
    """
    tool = need_verilator()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dense.v").write_text(dense_verilog(d))
    (folder / "bench.cpp").write_text(_bench(d, x))
    flags = [
        "--cc",
        "--exe",
        "--build",
        "-Wno-fatal",
        "-Wno-WIDTH",
        "-CFLAGS",
        "-O0",
        "--top-module",
        "dense",
    ]
    run(tool, [*flags, "-j", "2", "--Mdir", "obj", "dense.v", "bench.cpp"], folder)
    done = subprocess.run(
        [str(folder / "obj" / "Vdense")], capture_output=True, text=True, timeout=120, check=True
    )
    accepted, valid, results = [], [], []
    for line in done.stdout.splitlines():
        kind, cycle, *numbers = line.split()
        if kind == "a":
            accepted.append(int(cycle))
        else:
            valid.append(int(cycle))
            results.append([int(n) for n in numbers])
    return DenseRun(np.array(results, np.int64), tuple(accepted), tuple(valid))


def _bench(d: DenseDesign, x: Ints) -> str:
    rows = ",".join("{" + ",".join(str(int(v)) for v in row) + "}" for row in x)
    total = len(x) * d.reuse + d.latency + 8
    put, get = _access("t.x", d.n_in * d.input_bits), _access("t.y", d.n_out * d.output_bits)
    return f"""#include "Vdense.h"
#include "verilated.h"
#include <cstdio>
#include <cstdint>
static const int X[{len(x)}][{d.n_in}] = {{{rows}}};
int main() {{
  Vdense t; t.rst = 1; t.start = 0; t.clk = 0; t.eval(); t.clk = 1; t.eval(); t.rst = 0;
  int row = 0;
  for (int c = 0; c < {total}; c++) {{
    t.clk = 0; t.start = row < {len(x)};
    if (row < {len(x)}) for (int i = 0; i < {d.n_in}; i++) for (int b = 0; b < {d.input_bits}; b++) {{
      int at = i * {d.input_bits} + b; uint32_t v = ((uint32_t)X[row][i] >> b) & 1; {put[0]}
    }}
    t.eval();
    if (t.start && t.ready) {{ printf("a %d\\n", c); row++; }}
    if (t.valid) {{
      printf("v %d", c);
      for (int j = 0; j < {d.n_out}; j++) {{
        uint64_t v = 0;
        for (int b = 0; b < {d.output_bits}; b++) {{
          int at = j * {d.output_bits} + b; v |= (uint64_t){get[1]} << b;
        }}
        int64_t s = (int64_t)(v << {64 - d.output_bits}) >> {64 - d.output_bits};
        printf(" %lld", (long long)s);
      }}
      printf("\\n");
    }}
    t.clk = 1; t.eval();
  }}
  return 0;
}}
"""


def _access(name: str, bits: int) -> tuple[str, str]:
    """C++ to set bit `at` to v, and to read it: Verilator uses integers up to 64 bits and word arrays
    above."""
    if bits > 64:
        word = f"{name}[at / 32]"
        return f"{word} = ({word} & ~(1u << (at % 32))) | (v << (at % 32));", f"(({word} >> (at % 32)) & 1)"
    one = "(uint64_t)1"
    return f"{name} = ({name} & ~({one} << at)) | ((uint64_t)v << at);", f"(({name} >> at) & 1)"


@dataclass(frozen=True, slots=True)
class DenseFabric:
    """Expected Yosys counts of a design."""

    lut: float
    ff: float
    dsp: float


def estimate_fabric(d: DenseDesign) -> DenseFabric:
    """LUT, FF and DSP of `dense_verilog(d)` from its structure.

    Registers are counted one by one. Yosys turns a weight case of 8 or more entries into a ROM with a
    register
    (0.9 of its bits survive trimming); shorter cases share the few functions of their select bits. LUTs:
    input
    multiplexers (a 4:1 multiplexer per LUT6), weight ROMs (64 entries per LUT6), a LUT per adder bit.
    """
    xb, wb, ob = d.input_bits, d.weight_bits, d.output_bits
    multipliers, pb = d.lanes * d.n_out, xb + wb
    adder_bits, register_bits, names, width = 0, 0, d.lanes, pb
    while names > 2:
        width += 1
        adder_bits += (names // 2) * width
        register_bits += (names + 1) // 2 * width
        names = (names + 1) // 2
    adder_bits += (width + 1) * (names - 1)
    rom = ROM_TRIM * multipliers * wb if d.reuse >= ROM_ENTRIES else 0.0
    last = pb + ceil(log2(max(d.lanes, 2)))
    ff = d.n_in * xb + d.n_out * (ob + last + register_bits) + multipliers * pb + rom + CONTROL_FF
    mux = 0.0 if d.reuse == 1 else d.lanes * xb * ceil(d.reuse / 4)
    lut = mux + rom * ceil(d.reuse / 64) + d.n_out * (adder_bits + ACCUMULATOR_LUT * ob) + CONTROL_LUT
    return DenseFabric(lut, ff, float(multipliers))
