"""The programs and the model file of docs/models.md run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tetrasim.models.parameters import count_parameters
from tetrasim.models.zoo import resolve

DOC = Path(__file__).parents[2] / "docs" / "models.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("program", blocks("python"))
def test_programs(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    exec(compile(program, str(DOC), "exec"), {"__name__": "doc"})
    assert capsys.readouterr().out.strip()


def test_the_model_file(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    file = tmp_path / "my-llama.yaml"
    file.write_text(text)
    config = resolve(file)
    assert (config.kv_heads, config.head_dim) == (8, 64)
    assert count_parameters(config).total > 1e9
