"""A user's own module exports like a preset, and what it cannot do is said in the user's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tetrasim.errors import UserError
from tetrasim.export.module import ModulePhase, export_module
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.interpreter import interpret


class Net(nn.Module):
    """A residual block with a buffer, a constant and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 6)
        self.norm = nn.LayerNorm(6)
        self.register_buffer("shift", torch.linspace(-1, 1, 6))

    def forward(self, x: Tensor, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        y = self.norm(x + self.shift)
        y = x + self.down(torch.nn.functional.gelu(self.up(y))) * 0.5
        return y, {"picked": y.index_select(1, index)}


def phase(**changes: object) -> ModulePhase:
    torch.manual_seed(0)
    spec: dict[str, object] = {
        "module": Net(),
        "inputs": {"x": torch.randn(3, 5, 6), "index": torch.tensor([4, 0])},
        "outputs": ("y", "picked"),
        "dims": {"x": {0: "batch", 1: "seq"}},
    }
    return ModulePhase(**{**spec, **changes})  # type: ignore[arg-type]


def test_a_module_exports_and_its_numbers_are_there(tmp_path: Path) -> None:
    spec = phase()
    found = export_module("my-net", {"forward": spec}, tmp_path / "net")
    manifest = found.manifest
    assert manifest.parameters == sum(p.numel() for p in spec.module.parameters())
    assert [c.name for c in manifest.checks] == [
        "forward: torch and onnxruntime",
        "forward: torch and interpreter",
    ]
    assert manifest.max_abs_error < 1e-5
    assert found.phase("forward").symbols == ("batch", "seq")
    assert [(p.name, p.shape) for p in found.phase("forward").outputs] == [
        ("y", ("batch", "seq", 6)),
        ("picked", ("batch", 2, 6)),
    ]
    x = np.random.default_rng(1).standard_normal((2, 7, 6), dtype=np.float32)
    graph = import_onnx(found.path("forward"), {"batch": 2, "seq": 7})
    got = interpret(graph, {"x": x, "index": np.array([1, 6])})["y"]
    with torch.inference_mode():
        wanted = spec.module(torch.from_numpy(x), torch.tensor([1, 6]))[0].numpy()
    assert np.abs(got - wanted).max() < 1e-5


class Counter(nn.Module):
    """A linear recurrence: the state grows by one row per step."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rows = self.mix(x)
        present = rows if past is None else torch.cat((past, rows), 1)
        return present.mean(1), present


def test_two_phases_share_weights_and_pair_states(tmp_path: Path) -> None:
    net = Counter()
    outputs = ("y", "present")
    found = export_module(
        "counter",
        {
            "prefill": ModulePhase(net, {"x": torch.randn(2, 3, 4)}, outputs, {"x": {0: "batch", 1: "seq"}}),
            "step": ModulePhase(
                net,
                {"x": torch.randn(2, 1, 4), "past_rows": torch.randn(2, 5, 4)},
                outputs,
                {"x": {0: "batch"}, "past_rows": {0: "batch", 1: "past"}},
                {"past_rows": "present"},
            ),
        },
        tmp_path / "counter",
    )
    assert found.manifest.architecture == "decoder"
    assert found.phase("step").states == (("past_rows", "present"),)
    assert (found.folder / "weights.bin").stat().st_size == 4096 + 16
    graph = import_onnx(found.path("step"), {"batch": 1, "past": 9}, states={"past_rows": "present"})
    assert graph.states[0].after.type.shape == (1, 10, 4)


def test_a_module_on_the_meta_device_exports_shapes(tmp_path: Path) -> None:
    with torch.device("meta"):
        big = nn.Linear(200_000, 100_000)
        spec = ModulePhase(big, {"x": torch.zeros(2, 200_000)}, ("y",), {"x": {0: "batch"}})
    with pytest.raises(UserError, match="meta device"):
        export_module("big", {"forward": spec}, tmp_path / "big")
    assert not (tmp_path / "big").exists()
    found = export_module("big", {"forward": spec}, tmp_path / "big", weights=False)
    graph = import_onnx(found.path("forward"), {"batch": 1})
    assert graph.weight_bytes == 4 * (200_000 + 1) * 100_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": {"z": {0: "batch"}}}, "no input 'z'"),
        ({"states": {"x": "z"}}, "no output 'z'"),
        ({"outputs": ("y",)}, "returns 2 tensors, 1 are named"),
        ({"dims": {"x": {2: "width"}}}, "width|cannot"),
        ({"module": Net().half()}, "is torch.float16"),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        export_module("net", {"forward": phase(**changes)}, tmp_path / "net")
    assert not (tmp_path / "net").exists()


class Branching(nn.Module):
    """What torch.export cannot trace."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_module_that_does_not_trace(tmp_path: Path) -> None:
    spec = ModulePhase(Branching(), {"x": torch.ones(2)})
    with pytest.raises(UserError, match="torch cannot export the module Branching"):
        export_module("net", {"forward": spec}, tmp_path / "net")


def test_names_that_are_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot name a model"):
        export_module("../net", {"forward": phase()}, tmp_path / "net")
    with pytest.raises(UserError, match="phases"):
        export_module("net", {"../../x": phase()}, tmp_path / "net")
