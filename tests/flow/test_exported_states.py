"""What the manifest of an export says decides its runs: state pairs, lengths, and which graphs there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import tetrasim
from tetrasim.errors import UserError
from tetrasim.export.module import ModulePhase, export_module
from tetrasim.flow.loading import find_model, load_model
from tetrasim.flow.request import workload_for
from tetrasim.sim.ir.graph import Role


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: torch.Tensor, held: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        held = held * 0.9 + self.up(x)
        return self.down(torch.tanh(held)), held


class Start(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.step(x[:, -1], torch.zeros(x.shape[0], 64))


def _export(folder: Path, before: str, after: str, *, prefill: bool = False, seq: bool = False) -> Path:
    step = Step().eval()
    x, held = torch.randn(2, 16), torch.randn(2, 64)
    dims = {"x": {0: "batch"}, before: {0: "batch"}}
    phases = {"step": ModulePhase(step, {"x": x, before: held}, ("y", after), dims, {before: after})}
    if prefill:
        opened = {"x": {0: "batch", 1: "seq"} if seq else {0: "batch"}}
        start = ModulePhase(Start(step).eval(), {"x": torch.randn(2, 24, 16)}, ("y", after), opened)
        phases = {"prefill": start, **phases}
    export_module("held", phases, folder)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _export(tmp_path_factory.mktemp("own") / "m", "mem.0", "out_mem.0")


def test_pairs_are_those_of_the_manifest(own: Path, tmp_path: Path) -> None:
    usual = _export(tmp_path / "m", "past_mem.0", "present_mem.0")
    asked = {"on": ["pim/pim-gpt", "gpu/t4"], "prompt": 1, "generate": 4, "numerics": False}
    ours, theirs = (tetrasim.simulate(f, **asked) for f in (own, usual))  # type: ignore[arg-type]
    for a, b in zip(ours.results, theirs.results, strict=True):
        assert a.latency.value == b.latency.value
        assert a.memory[0].state_bytes == b.memory[0].state_bytes > 0


def test_a_step_by_itself_runs_once_per_token(own: Path) -> None:
    for tokens in (1, 4):
        (result,) = tetrasim.simulate(own, on=["gpu/t4"], generate=tokens, numerics=False).results
        assert [(p.name, p.runs) for p in result.phases] == [("decode", tokens)]
        assert result.generation is not None
        assert result.generation.first_token.value == pytest.approx(result.latency.value / tokens, rel=0.05)


def test_what_a_prefill_hands_on_is_state_whatever_its_name(tmp_path: Path) -> None:
    files = find_model(_export(tmp_path / "m", "mem.0", "out_mem.0", prefill=True))
    prefill, decode = load_model(files, workload_for(files, None, 2, 1, None)).phases
    (kept,) = (v for v in prefill.family.base.outputs if v.role is Role.STATE)
    assert kept.name == decode.family.base.states[0].after.name == "out_mem.0"


def test_a_prefill_of_one_length_refuses_another(tmp_path: Path) -> None:
    fixed = find_model(_export(tmp_path / "fixed", "mem", "next_mem", prefill=True))
    assert workload_for(fixed, None, 2, 1, None).prompt == 24
    assert workload_for(fixed, 24, 2, 3, None).batch == 3
    with pytest.raises(UserError, match="always reads 24 tokens, not 1000") as refusal:
        workload_for(fixed, 1000, 2, 1, None)
    assert "--prompt 24" in refusal.value.hint
    opened = find_model(_export(tmp_path / "open", "mem", "next_mem", prefill=True, seq=True))
    assert workload_for(opened, 1000, 2, 1, None).prompt == 1000
