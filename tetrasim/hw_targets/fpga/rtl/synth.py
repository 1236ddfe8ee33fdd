"""Yosys counts: LUT, FF, DSP and carry cells of a module for UltraScale+ (before packing: upper bounds)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.rtl.tools import need_yosys, run


@dataclass(frozen=True, slots=True)
class Counts:
    """Cells of `synth_xilinx -family xcup`."""

    lut: int
    ff: int
    dsp: int
    carry: int
    bram: int


def synthesise(sources: list[str], top: str, folder: Path, timeout_s: int = 900) -> Counts:
    """Counts of `top`, made from Verilog files in `folder`.

    Raises:
        UserError: no Yosys, or it failed.
    """
    script = (
        f"read_verilog -sv -defer {' '.join(sources)}; synth_xilinx -family xcup -flatten -top {top}; stat"
    )
    run(need_yosys(), ["-q", "-l", "yosys.log", "-p", script], folder, timeout_s)
    return count((folder / "yosys.log").read_text(errors="replace"))


def count(text: str) -> Counts:
    """Cells of the last `stat` table of a Yosys log.

    Yosys up to 0.4x writes `LUT2   123` below `Number of cells`, later ones `123   LUT2` below `… cells`.

    Raises:
        UserError: the log has no such table: a zero would be read as a design that needs nothing.
    """
    starts = [m.start() for m in re.finditer(r"Number of cells|^\s+\d+\s+(?:\S+\s+)?cells\b", text, re.M)]
    table = text[starts[-1] :] if starts else ""
    cells = {name: int(n) for name, n in re.findall(r"^\s+([A-Z]\w+)\s+(\d+)\s*$", table, re.M)}
    cells |= {name: int(n) for n, name in re.findall(r"^\s+(\d+)\s+(?:\S+\s+)?([A-Z]\w+)\s*$", table, re.M)}
    if not cells:
        hint = "please report the version of Yosys (`yosys -V`) and the log"
        raise UserError("Yosys' log has no table of cells that can be read", hint=hint)

    def total(pattern: str) -> int:
        return sum(n for name, n in cells.items() if re.fullmatch(pattern, name))

    return Counts(
        lut=total(r"LUT[1-6]") + total(r"SRL\w+") + 2 * total(r"RAM32\w+"),
        ff=total(r"FD[A-Z]+"),
        dsp=total(r"DSP48E\d"),
        carry=total(r"CARRY[48]"),
        bram=2 * total(r"RAMB36E\d") + total(r"RAMB18E\d"),
    )
