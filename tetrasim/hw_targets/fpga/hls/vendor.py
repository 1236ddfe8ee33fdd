"""Read what the vendor's tools said about a project, and set it beside the estimate.

csynth reports are the XML files of Vitis HLS and Vivado HLS (`…/syn/report/csynth.xml` or
`<top>_csynth.xml`);
`vivado_synth.rpt` is Vivado's utilisation table.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.files.read import read_bytes, read_json
from tetrasim.files.write import write_file
from tetrasim.hw_targets.fpga.hls.emit import PROJECT

MAX_REPORT_BYTES = 64 << 20
ESTIMATE = "estimate.json"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantity; `synthesised` None: the tool has not reported it."""

    quantity: str
    estimate: float
    synthesised: float | None

    @property
    def error(self) -> float | None:
        """Relative error of the estimate."""
        return None if not self.synthesised else self.estimate / self.synthesised - 1


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Estimate against truth of one project."""

    folder: str
    reports: tuple[str, ...]
    rows: tuple[Comparison, ...]

    def text(self) -> str:
        """A table."""
        lines = [f"{'quantity':<20} {'estimate':>12} {'synthesised':>12} {'error':>8}"]
        for row in self.rows:
            truth = "-" if row.synthesised is None else f"{row.synthesised:,.0f}"
            error = "-" if row.error is None else f"{row.error:+.1%}"
            lines.append(f"{row.quantity:<20} {row.estimate:>12,.0f} {truth:>12} {error:>8}")
        return "\n".join([*lines, f"from {', '.join(self.reports) or 'no report yet'}"])


def compare_build(folder: Path) -> BuildReport:
    """Parse the reports under `folder`, store `synthesis.json`, return estimate against truth.

    Raises:
        UserError: not a project folder, or no report in it.
    """
    stored = folder / ESTIMATE
    if not stored.is_file():
        raise UserError(f"'{folder}' has no {ESTIMATE}", hint="tetrasim hls MODEL -o DIR writes one")
    estimate = _estimate(read_json(stored, MAX_REPORT_BYTES), stored)
    found: dict[str, float] = {}
    files: list[str] = []
    for file in _reports(folder):
        found |= read_csynth(file) if file.suffix == ".xml" else read_utilisation(file)
        files.append(str(file.relative_to(folder)))
    if not found:
        raise UserError(
            f"no synthesis report under '{folder}'",
            hint="run `vitis_hls -f build_prj.tcl` in the folder first",
        )
    names = {
        "latency (cycles)": "latency_cycles",
        "interval (cycles)": "interval_cycles",
        "LUT": "lut",
        "FF": "ff",
        "DSP": "dsp",
        "BRAM18": "bram18",
    }
    rows = tuple(Comparison(k, estimate.get(v, 0.0), found.get(k)) for k, v in names.items())
    report = BuildReport(str(folder), tuple(files), rows)
    write_file(folder / "synthesis.json", json.dumps(asdict(report), indent=1, sort_keys=True) + "\n")
    return report


def _estimate(tree: object, file: Path) -> dict[str, float]:
    """The numbers that the project's writer estimated."""
    found = tree.get("estimate") if isinstance(tree, dict) else None
    if not isinstance(found, dict):
        raise UserError("it holds no estimate", where=str(file), hint="write the project again")
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _reports(folder: Path) -> list[Path]:
    """csynth first, so that post-synthesis utilisation overrides its resource guesses."""
    csynth = [*folder.rglob(f"{PROJECT}_csynth.xml"), *folder.rglob("csynth.xml")]
    good = [
        f for f in csynth[:1] + sorted(folder.glob("vivado_synth.rpt")) if f.stat().st_size < MAX_REPORT_BYTES
    ]
    return [f for f in good if f.is_file() and folder.resolve() in f.resolve().parents]


def read_csynth(file: Path) -> dict[str, float]:
    """Latency, interval and resources of a csynth XML.

    Raises:
        UserError: the file is not such a report.
    """
    text = read_bytes(file, MAX_REPORT_BYTES).decode("utf-8", "replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError("the report declares entities", where=str(file), hint="csynth reports do not")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as failure:
        raise UserError(f"not an XML report: {failure}", where=str(file)) from None
    wanted = {
        "latency (cycles)": ".//SummaryOfOverallLatency/Worst-caseLatency",
        "interval (cycles)": ".//SummaryOfOverallLatency/Interval-max",
        "BRAM18": ".//AreaEstimates/Resources/BRAM_18K",
        "DSP": ".//AreaEstimates/Resources/DSP",
        "FF": ".//AreaEstimates/Resources/FF",
        "LUT": ".//AreaEstimates/Resources/LUT",
    }
    out = {}
    for name, path in wanted.items():
        text_of = root.findtext(path) or (root.findtext(f"{path}48E") if name == "DSP" else None)
        if text_of and text_of.strip().isdigit():
            out[name] = float(text_of)
    return out


def read_utilisation(file: Path) -> dict[str, float]:
    """CLB LUTs, registers, DSPs and block RAM tiles of a Vivado utilisation table."""
    text = read_bytes(file, MAX_REPORT_BYTES).decode("utf-8", "replace")
    rows = {
        "LUT": r"\|\s*(?:CLB|Slice) LUTs\*?\s*\|\s*([\d.]+)",
        "FF": r"\|\s*(?:CLB|Slice) Registers\s*\|\s*([\d.]+)",
        "DSP": r"\|\s*DSPs\s*\|\s*([\d.]+)",
        "BRAM18": r"\|\s*Block RAM Tile\s*\|\s*([\d.]+)",
    }
    out = {}
    for name, pattern in rows.items():
        match = re.search(pattern, text)
        if match:
            out[name] = float(match.group(1)) * (2 if name == "BRAM18" else 1)  # a tile is two 18 Kb halves
    return out
