"""User traces and replay files: clocks of small examples, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.cases import controller_requests, read_cases
from tetrasim.hw_targets.common.dram.replay import replay
from tetrasim.hw_targets.common.dram.trace import run_trace
from tetrasim.hw_targets.common.dram.yaml_device import find_device

DATA = Path(__file__).parents[2] / "validation" / "data" / "pim" / "cases.json"


def write(folder: Path, text: str) -> Path:
    file = folder / "trace.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_request_trace(tmp_path: Path) -> None:
    file = write(tmp_path, "request,bg,bank,row\nread,0,1,5\nread,0,1,6\n")
    rows = run_trace(file, find_device("gddr6"))
    assert [(r.clock, r.command, r.bank) for r in rows] == [
        (0, "ACT", 1),
        (30, "RD", 1),
        (60, "PREpb", 1),
        (90, "ACT", 1),
        (120, "RD", 1),
    ]


def test_command_trace(tmp_path: Path) -> None:
    file = write(tmp_path, "command,bg,bank\nACT,0,0\nACT,1,0\nPREab,,\nREFab,,\n")
    rows = run_trace(file, find_device("gddr6"))
    assert [(r.clock, r.command) for r in rows] == [(0, "ACT"), (11, "ACT"), (71, "PREab"), (101, "REFab")]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("request,bank,roww\nread,0,0\n", "unknown column 'roww'", 1),
        ("request,bg,bank\nread,4,0\n", "'bg' 4 is out of range", 2),
        ("request,bg,bank\nraed,1,0\n", "unknown request 'raed'", 2),
        ("command,bg,bank\nACTT,1,0\n", "has no command 'ACTT'", 2),
        ("bg,bank\n1,0\n", "needs a column", 1),
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
