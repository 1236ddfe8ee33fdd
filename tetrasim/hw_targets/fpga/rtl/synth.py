"""Yosys counts: LUT, FF, DSP and carry cells of a module for UltraScale+ (before packing: upper bounds)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tetrasim.hw_targets.fpga.rtl.tools import need_yosys, run


@dataclass(frozen=True, slots=True)
class Counts:
    """Cells of `synth_xilinx -family xcup`."""

    lut: int
    ff: int
    dsp: int
    carry: int
    bram: int


def synthesise(sources: list[str], top: str, folder: Path) -> Counts:
    """Counts of `top`, made from Verilog files in `folder`.

    Raises:
        UserError: no Yosys, or it failed.
    """
    script = (
        f"read_verilog -sv -defer {' '.join(sources)}; synth_xilinx -family xcup -flatten -top {top}; stat"
    )
    run(need_yosys(), ["-q", "-l", "yosys.log", "-p", script], folder)
    return count((folder / "yosys.log").read_text(errors="replace"))


def count(text: str) -> Counts:
    """Cells of the last `stat` table of a Yosys log."""
    table = text[text.rfind("Number of cells") :]
    cells = {name: int(n) for name, n in re.findall(r"^\s+([A-Z][A-Z0-9_]+)\s+(\d+)\s*$", table, re.M)}

    def total(pattern: str) -> int:
        return sum(n for name, n in cells.items() if re.fullmatch(pattern, name))

    return Counts(
        lut=total(r"LUT[1-6]") + total(r"SRL\w+") + 2 * total(r"RAM32\w+"),
        ff=total(r"FD[A-Z]+"),
        dsp=total(r"DSP48E\d"),
        carry=total(r"CARRY[48]"),
        bram=2 * total(r"RAMB36E\d") + total(r"RAMB18E\d"),
    )
