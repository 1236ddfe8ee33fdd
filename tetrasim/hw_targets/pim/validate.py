"""`tetrasim validate pim`: command clocks against other simulators, and what was published about the devices.

Clocks: every case of `measured/cases.json` is replayed on the DRAM engines, and the GEMV cases also run as
the programs that the system model makes of a matrix product. Published figures (`measured/published.csv`)
stand beside the presets' own; speed-ups over a GPU and a processor need those targets' simulations, see
`reproductions/pim_gpt.py`. Nothing here is silicon measured by us: results of the presets stay unvalidated.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from tetrasim.hw_targets.common.dram.cases import Case, read_cases
from tetrasim.hw_targets.common.dram.program import Instruction, encode
from tetrasim.hw_targets.common.dram.replay import run_case
from tetrasim.hw_targets.common.presets import load_preset, with_overrides
from tetrasim.hw_targets.pim import hbm, mapping
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.gpt_step import PAPER_MODELS, one_token
from tetrasim.hw_targets.pim.machine import layout, machine
from tetrasim.hw_targets.pim.price import peaks, price
from tetrasim.sim.ops.single import matmul_work
from tetrasim.sim.precision import BFLOAT16

MEASURED = Path(__file__).with_name("measured")
CONTEXT = 512  # the middle of 1,024 tokens
_PER_UNIT = {"aim": 2, "hbm-pim": 16}  # channels of a chip, of a stack
# GEMV cases as the system model runs them on one channel: preset, outputs, inputs
_SYSTEM_CASES = {
    "A1": ("aim", 1024, 1024), "A3": ("aim", 1024, 4096), "A4": ("aim", 256, 512), "A5": ("aim", 16, 1024),
    "S1": ("hbm-pim", 128, 128), "S2": ("hbm-pim", 64, 1024),
}  # fmt: skip
_NOTES = {
    "A": "rows are packed where a case takes a new one for every 16 outputs",
    "S2": "the log contains one refresh (350 cycles, without waiting tRP); the model's first is due later",
}


@dataclass(frozen=True, slots=True)
class ValidationRow:
    """`error`: ours over the nearer end of the reference, less 1; 0 inside it."""

    what: str
    preset: str
    ours: float
    reference: str
    unit: str
    error: float
    note: str
    source: str


def validate() -> list[ValidationRow]:
    """Cases, the same as system programs, then published figures."""
    return [*case_rows(), *system_rows(), *published_rows()]


def preset(name: str, **changes: str | int | bool) -> PimConfig:
    """A shipped preset with some settings changed."""
    file = Path(__file__).parent / "presets" / f"{name}.yaml"
    return with_overrides(load_preset(file, f"pim/{name}", PimConfig).config, changes)


def case_rows() -> list[ValidationRow]:
    """Every case on the engines; a case that does not match (clock, checksum or counts) says why."""
    rows = []
    for case in read_cases(MEASURED / "cases.json"):
        found = run_case(case)
        expected = found.expected or 0
        ours = found.cycles or 0
        note = "" if found.match else found.reason or "checksum or counts differ"
        rows.append(_row(f"case {case.id}", "", ours, expected, expected, "cycles", note, _source(case)))
    return rows


def system_rows() -> list[ValidationRow]:
    """The GEMV cases as programs of the system model, from an idle channel to the last command's end."""
    cases = {case.id[:2]: case for case in read_cases(MEASURED / "cases.json")}
    rows = []
    for name, (of, outputs, inputs) in _SYSTEM_CASES.items():
        config = preset(of, compat=True)
        on = replace(layout(config), channels=1)
        program: tuple[Instruction, ...]
        if of == "aim":
            program = mapping.weights_gemv(inputs, outputs, 1, on).instructions
        else:
            groups = -(-outputs // on.group)
            program = hbm.entered(hbm.products(inputs, groups, on, first=True), on)
        channel = machine(config).channel
        running = channel.start()
        end = running.run(encode(program, channel.index))
        if of == "aim":
            end = running.clock + 4  # the simulator ends 4 cycles after the last command
        expected = run_case(cases[name]).expected or 0
        note = _NOTES.get(name, _NOTES["A"] if of == "aim" and end != expected else "")
        what = f"GEMV {outputs} x {inputs} by the system model"
        rows.append(_row(what, of, end, expected, expected, "cycles", note, _source(cases[name])))
    return rows


def published_rows() -> list[ValidationRow]:
    """Published figures beside ours; a quantity of several models spans their range."""
    rows = []
    with (MEASURED / "published.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            low, high = float(line["low"]), float(line["high"])
            values = _ours(line["quantity"], line["preset"])
            for name, value in values:
                what = f"{line['quantity']}{', ' + name if name else ''}"
                rows.append(
                    _row(what, line["preset"], value, low, high, line["unit"], line["seen"], line["source"])
                )
    return rows


def _source(case: Case) -> str:
    """The repository and commit of the simulator that a case was run on."""
    return " ".join(case.get("source", str, "").split()[:2])


def _ours(quantity: str, name: str) -> list[tuple[str, float]]:
    config = preset(name)
    one = preset(name, channels=_PER_UNIT.get(name, config.channels))
    if quantity.startswith("multiply-accumulate"):
        operations = 1 if name == "pim-gpt" else 2
        return [("", operations * peaks(one).macs_per_s * 1e-12)]
    if quantity.startswith("GEMV"):
        return [("", _gain(one))]
    if quantity.startswith("time outside"):
        return [("", 100 * one_token(PAPER_MODELS["gpt3-xl"], CONTEXT, config).outside_products)]
    tokens = {n: one_token(m, CONTEXT, config) for n, m in PAPER_MODELS.items()}
    if quantity == "row hits":
        found = {n: 100 * t.row_hits for n, t in tokens.items()}
    elif quantity.startswith("off-chip"):
        found = {n: t.movement_reduction for n, t in tokens.items()}
    else:
        slow = preset(name, **{"host.clock_hz": 100_000_000})
        found = {
            n: 100 * (one_token(PAPER_MODELS[n], CONTEXT, slow).clocks / t.clocks - 1)
            for n, t in tokens.items()
        }
    ends = (min(found, key=lambda n: found[n]), max(found, key=lambda n: found[n]))
    return [(n, found[n]) for n in ends]


def _gain(config: PimConfig) -> float:
    """A product with a 4096 x 4096 matrix against reading that matrix at the pins' peak rate."""
    work = matmul_work(1, 4096, 4096, BFLOAT16)
    rate = dict(peaks(config).bytes_per_s)["channel I/O"]
    seconds = float(price([work], config).latency_us[0]) * 1e-6
    return 2 * 4096 * 4096 / rate / seconds


def _row(
    what: str, of: str, ours: float, low: float, high: float, unit: str, note: str, source: str
) -> ValidationRow:
    near = min(max(ours, low), high)
    error = ours / near - 1 if near else 0.0
    reference = f"{low:g}" if low == high else f"{low:g}-{high:g}"
    if unit == "cycles":
        reference = f"{int(low)}"
    return ValidationRow(what, of, round(ours, 2), reference, unit, round(error, 4), note, source)
