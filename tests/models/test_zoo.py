"""Presets and user files are found, checked and refused with the nearest name, all without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tetrasim.errors import UserError
from tetrasim.models.zoo import preset, preset_names, resolve


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown model 'gpt2-smal'") as caught:
        preset("gpt2-smal")
    assert "did you mean 'gpt2-small'?" in caught.value.hint


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("architecture: encoder\nwidht: 16\n")
    with pytest.raises(UserError, match=r"unknown model key 'widht'|width") as caught:
        resolve(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 7}, "768 is not a multiple of heads 7"),
        ({"kv_heads": 5}, "heads 12 is not a multiple of kv_heads 5"),
        ({"norm_epsilon": float("nan")}, "norm_epsilon"),
        ({"layers": 0}, "layers"),
        ({"layers": 320_000}, "layers"),
        ({"head": {"kind": "classifier", "classes": 3}}, "head kind 'lm'"),
        ({"merge_after": 2}, "fixed number of tokens, a multiple of 2"),
        ({"colour": "red"}, "unknown model key 'colour'"),
    ],
)
def test_wrong_dims_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset("gpt2-small").replace(**changes)


@pytest.mark.parametrize("text", ["- 1\n", "a: [\n", ""])
def test_not_a_model_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError):
        resolve(file)


def test_a_users_file_takes_the_presets_keys(tmp_path: Path) -> None:
    source = Path(sys.modules["tetrasim.models.zoo"].__file__ or "").parent / "presets" / "jet-btag.yaml"
    file = tmp_path / "mine.yaml"
    file.write_text(source.read_text())
    assert resolve(file) == preset("jet-btag").model_copy(update={"name": "mine"})


def test_coupled_dims_follow_and_decoupled_ones_stay() -> None:
    assert preset("gpt2-small").replace(heads=6).head_dim == 128
    assert preset("jet-btag").replace(heads=1).head_dim == 32
    assert preset("llama2-70b").replace(layers=2).kv_heads == 8


def test_reading_presets_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from tetrasim.models.zoo import preset, preset_names\n"
        "from tetrasim.models.parameters import count_parameters\n"
        "[count_parameters(preset(n)).total for n in preset_names()]\n"
        "assert not {'torch', 'onnx', 'onnxscript'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(preset_names()) > 20
