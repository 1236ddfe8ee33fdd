"""`run --measure` hands file, graph and configuration to the target, and prints the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_onnx

from tetrasim.cli import main
from tetrasim.hw_targets.common.target import Config
from tetrasim.sim.ir.graph import Graph


@dataclass(frozen=True)
class _Measured:
    predicted_ms: float = 1.1
    measured_ms: float = 1.0
    runs: int = 7
    threads: int = 2
    other_cores: float = 0.5
    drift: tuple[tuple[str, float], ...] = (("a product", 1.02),)
    profiler_us: float = 2.25
    kernels_ms: float = 1.05
    error: float = 0.1

    def by_op(self) -> tuple[tuple[str, int, float, float], ...]:
        return (("MatMul", 2, 900.0, 1000.0), ("Reshape", 3, 0.7, 5.0), ("Relu", 1, 5.0, 0.0))


def test_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, int, str]] = []

    def measure(onnx_path: Path, graph: Graph, config: Config) -> _Measured:
        asked.append((onnx_path.name, graph.inputs[0].type.shape[0], type(config).__name__))
        return _Measured()

    monkeypatch.setattr("tetrasim.hw_targets.cpu.measure.measure", measure)
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tiny_onnx.write(tmp_path)
    assert (
        main(["run", "mlp.onnx", "--dim", "rows=4", "--on", "gpu/t4", "cpu/host", "--measure", "--quiet"])
        == 0
    )
    assert asked == [("mlp.onnx", 4, "CpuConfig")]
    out = capsys.readouterr().out
    assert "measured cpu/host forward: 1 ms (best of 7, 2 threads)" in out
    assert "predicted 1.1 ms: +10.0 %" in out
    assert "a product takes 1.02 times its calibrated time; other programs used 0.5 cores" in out
    assert "the best times of all kernels add up to 1.05 ms (+4.8 %); per op, less the 2.2 µs that" in out
    rows = {
        line.split()[0]: line.split()[-1] for line in out.splitlines() if line[:7] in ("MatMul ", "Reshape")
    }
    assert rows["Reshape"] == "-"  # below the profiler's resolution
    assert "-10 %" in out
