"""User traces and replay files: clocks of small examples, and clear errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dram_legality import Logged, read_rules, violations

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.cases import controller_requests, read_cases
from tetrasim.hw_targets.common.dram.refresh import refresh_of
from tetrasim.hw_targets.common.dram.replay import Outcome, replay
from tetrasim.hw_targets.common.dram.trace import TraceRow, run_trace
from tetrasim.hw_targets.common.dram.yaml_device import device_names, find_device
from tetrasim.hw_targets.pim.validate import MEASURED

DATA = MEASURED / "cases.json"


def write(folder: Path, text: str) -> Path:
    file = folder / "trace.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_request_trace(tmp_path: Path) -> None:
    file = write(tmp_path, "request,bg,bank,row\nread,0,1,5\nread,0,1,6\n")
    rows = run_trace(file, find_device("gddr6")).rows
    assert [(r.clock, r.command, r.bank) for r in rows] == [
        (0, "ACT", 1),
        (30, "RD", 1),
        (60, "PREpb", 1),
        (90, "ACT", 1),
        (120, "RD", 1),
    ]


def test_command_trace(tmp_path: Path) -> None:
    file = write(tmp_path, "command,bg,bank\nACT,0,0\nACT,1,0\nPREab,,\nREFab,,\n")
    rows = run_trace(file, find_device("gddr6")).rows
    assert [(r.clock, r.command) for r in rows] == [(0, "ACT"), (11, "ACT"), (71, "PREab"), (101, "REFab")]


def test_every_device_takes_both_kinds_of_trace(tmp_path: Path) -> None:
    """Requests become commands; those commands as a trace of their own issue at the same clocks, legally."""
    for name in device_names():
        device = find_device(name)
        lines = [f"{'write' if i % 3 == 2 else 'read'},{i % 4},{i // 2 % 4},{i // 7}" for i in range(160)]
        modes = ["none", "all_bank"]
        modes += ["per_bank"] if "REFpb" in {c.name for c in device.commands} else []
        for mode in modes:
            refresh = refresh_of(device, mode)
            if refresh.interval:  # often enough to be seen
                busy = device.timing.get("nRFCab", device.timing.get("nRFC", 0))
                refresh = replace(refresh, interval=min(refresh.interval, 2 * busy))
            done = run_trace(
                write(tmp_path, "request,bg,bank,row\n" + "\n".join(lines)), device, refresh=refresh
            )
            assert not done.warnings
            assert {"RD", "WR", "ACT"} <= {r.command for r in done.rows}
            assert (mode == "none") or refresh.command in {r.command for r in done.rows}
            commands = [f"{r.command},{max(r.bank, 0) // 4},{max(r.bank, 0) % 4},{r.row}" for r in done.rows]
            again = run_trace(write(tmp_path, "command,bg,bank,row\n" + "\n".join(commands)), device)
            assert [r.clock for r in again.rows] == [r.clock for r in done.rows]
            assert not again.warnings
            assert violations(logged(name, done.rows), read_rules(name)) == []


def logged(device: str, rows: tuple[TraceRow, ...]) -> list[Logged]:
    """Rows with their address below every level, for the legality checker."""
    counts = [1, *(level.count for level in find_device(device).levels[1:])]
    single = sum(c == 1 for c in counts)
    out = []
    for r in rows:
        at: tuple[int, ...] = (0,) * single
        if r.bank >= 0:
            at = tuple(int(i) for i in np.unravel_index(r.bank, counts))
        out.append(Logged(r.clock, r.command, at))
    return out


def test_commands_that_find_the_wrong_row_state_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, "command,bg,bank\nACT,0,0\nRD,0,0\nRD,1,0\nACT,0,0\nREFab,,\nPREab,,\nREFab,,\n")
    done = run_trace(file, find_device("gddr6"))
    assert [w.removeprefix(f"{file}:") for w in done.warnings] == [
        "4: RD: no row is open there",
        "5: ACT: a row is still open there",
        "6: REFab: a row is still open there",
    ]
    with pytest.raises(UserError, match="says itself where it refreshes"):
        run_trace(file, find_device("gddr6"), refresh_every=3)


def test_empty_trace(tmp_path: Path) -> None:
    assert run_trace(write(tmp_path, "request,bg\n"), find_device("gddr6")).rows == ()


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("request,bank,roww\nread,0,0\n", "unknown column 'roww'", 1),
        ("request,bg,bank\nread,4,0\n", "'bg' 4 is out of range", 2),
        ("request,bg,bank\nraed,1,0\n", "unknown request 'raed'", 2),
        ("command,bg,bank\nACTT,1,0\n", "has no command 'ACTT'", 2),
        ("bg,bank\n1,0\n", "needs a column", 1),
        ("request,bg,bank,bg\nread,1,0,1\n", "given twice", 1),
        ("request,bg,bank\nread,1\n", "fewer values", 2),
        ("request,bg,bank\nread,1,1,1\n", "more values", 2),
        ("command,bg,bank\nPREab\nACT\n", "'ACT' needs a bank", 3),
        ("request,bg,bank\nread,x,0\n", "not a whole number", 2),
    ],
)
def test_trace_mistakes(tmp_path: Path, text: str, what: str, line: int) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        run_trace(file, find_device("gddr6"))
    assert what in caught.value.what
    assert caught.value.where == f"{file}:{line}"


def test_a_bad_case_does_not_stop_the_replay(tmp_path: Path) -> None:
    tree = json.loads(DATA.read_text())
    first, second = tree["cases"][:2]
    tree["cases"] = [first, {"id": "odd"}, {"id": "X", "recipe": {"seed": 1}}, second]
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(tree))
    assert [o.match for o in replay(file)] == [True, False, False, True]
    assert all(o.reason for o in replay(file) if not o.match)
    with pytest.raises(UserError, match="no case 'od'"):
        replay(file, "od")


def test_wrong_expectation_is_seen(tmp_path: Path) -> None:
    tree = json.loads(DATA.read_text())
    tree["cases"] = tree["cases"][:1]
    tree["cases"][0]["expected"]["checksum"] += 1
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(tree))
    assert not replay(file)[0].match


def test_request_kinds(tmp_path: Path) -> None:
    """Seeded draws and bit formulas, in the spellings that the format allows."""
    base = {"rules": "rules.GDDR6", "timing_cycles": {}}
    specs = [
        {"kind": "lcg", "n": 4, "seed": 1, "emit_shift": 8, "draws": [{"bg": [0, 3]}, {"row": [2, 7]}]},
        {"kind": "lcg", "n": 4, "seed": 1, "emit_shift": 8, "draws": [[["bg", 0, 3]], [["row", 2, 7]]]},
        {"kind": "formula", "n": 8, "fields": {"bg": [0, 3], "row": [2, -1]}},
    ]
    cases = [{**base, "id": f"R{i}", "requests": spec} for i, spec in enumerate(specs)]
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"rules": {}, "cases": cases}))
    first, second, formula = (controller_requests(c, 2)[0] for c in read_cases(file))
    assert first.bank.tolist() == second.bank.tolist()
    assert first.row.tolist() == second.row.tolist()
    x, draws = 1, []
    for _ in range(12):
        x = (1103515245 * x + 12345) % 2**31
        draws.append(x >> 8)
    assert first.bank.tolist() == [4 * (v & 3) for v in draws[0::2]]
    assert first.row.tolist() == [(v >> 2) & 7 for v in draws[1::2]]
    assert formula.bank.tolist() == [4 * (i & 3) for i in range(10)]
    assert formula.row.tolist() == [i >> 2 for i in range(10)]


GDDR6 = {"rules": "rules.GDDR6", "timing_cycles": json.loads(DATA.read_text())["cases"][0]["timing_cycles"]}
STREAM = {"seed": 1, "n_requests": 50, "row_bits": 1, "wr_pct": 10, "ref_every": 9}


def outcomes(folder: Path, *cases: object) -> list[Outcome]:
    tree = {"rules": json.loads(DATA.read_text())["rules"], "cases": list(cases)}
    file = folder / "cases.json"
    file.write_text(json.dumps(tree))
    return list(replay(file))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({}, "none of recipe"),
        ({"recipe": STREAM}, "'rules' names no table"),
        ({"recipe": STREAM, "rules": "rules.GDDR7"}, "unknown rules 'rules.GDDR7'"),
        ({"recipe": STREAM, "rules": "rules.GDDR6"}, "'timing_cycles' is missing"),
        ({"recipe": STREAM, "rules": [{"level": "Bank"}], "timing_cycles": {}}, "rule 0 lacks"),
        ({**GDDR6, "recipe": {**STREAM, "seed": "x"}}, "'seed' is 'x'"),
        ({**GDDR6, "recipe": {**STREAM, "row_bits": -1}}, "'row_bits' is -1"),
        ({**GDDR6, "recipe": {**STREAM, "n_requests": 0}}, "0 requests"),
        ({**GDDR6, "recipe": STREAM, "command_cycles": {"ACT": "two"}}, "malformed case"),
        ({**GDDR6, "recipe": STREAM}, "nothing to compare"),
        ({**GDDR6, "recipe": STREAM, "expected": []}, "'expected' is []"),
        ({**GDDR6, "requests": []}, "'requests' is []"),
        ({**GDDR6, "requests": {"kind": "nest"}}, "unknown request kind 'nest'"),
        ({**GDDR6, "requests": {"kind": "nested", "order": [["row", 0]]}}, "needs pairs"),
        ({**GDDR6, "requests": {"kind": "nested", "order": [["rank", 2]]}}, "unknown field 'rank'"),
        ({**GDDR6, "requests": {"kind": "lcg", "n": 4, "seed": 1, "draws": [3]}}, "cannot read the request"),
        ({**GDDR6, "requests": {"kind": "formula", "n": 4, "bg": [0, 3]}, "refresh": "same-bank"}, "not mod"),
        ({**GDDR6, "requests": {"kind": "formula", "n": 4, "bg": [0, 3]}, "refresh": "per-bank"}, "nREFIpb"),
        ({"program": [["MAC"]], "timing_cycles": {}}, "unknown instruction ['MAC']"),
        ({"program": [{"repeat": 2}], "timing_cycles": {}}, "unknown instruction"),
        ({"program": 3, "timing_cycles": {}}, "'program' is 3"),
        ({"id": "hbm_pim_add", "timing_cycles": {}}, "no GEMV"),
        ({"id": "hbm_pim_gemv_64x64", "timing_cycles": {"BL": 4}}, "timing value 'RL' is missing"),
    ],
)
def test_malformed_cases_say_why(tmp_path: Path, case: dict[str, object], reason: str) -> None:
    (found,) = outcomes(tmp_path, case)
    assert not found.match
    assert reason in found.reason


def test_nested_too_deep(tmp_path: Path) -> None:
    program: list[object] = [["WR_BIAS"]]
    for _ in range(9):
        program = [{"repeat": 2, "row_step": 1, "body": program}]
    (found,) = outcomes(tmp_path, {"program": program, "timing_cycles": {}})
    assert "nested 9 deep" in found.reason


def test_long_streams_run_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream cut anywhere gives the same clocks: open rows, past issues and refreshes are kept."""
    case = {**GDDR6, "recipe": {**STREAM, "n_requests": 5000, "row_bits": 2, "ref_every": 333}}
    whole = outcomes(tmp_path, case)[0].got
    monkeypatch.setattr("tetrasim.hw_targets.common.dram.replay.CHUNK", 77)
    assert outcomes(tmp_path, case)[0].got == whole


def test_more_banks_than_sixteen(tmp_path: Path) -> None:
    """Bank groups above 3 get banks of their own: eight groups of four, each read in its turn."""
    spec = {"kind": "formula", "n": 64, "bg": [0, 7], "row": [3, -1]}
    (found,) = outcomes(tmp_path, {**GDDR6, "requests": spec, "refresh": "none"})
    assert found.got["first_RD_clk"] == 31
    assert found.cycles is not None
