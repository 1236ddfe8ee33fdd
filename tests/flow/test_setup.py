"""A target is configured once: a device file of the user's is what is simulated, whatever it is called."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
import tiny_onnx

import tetrasim
from tetrasim.errors import UserError
from tetrasim.flow.setup import set_up, set_up_all
from tetrasim.hw_targets.registry import find_preset, target_names

SHIPPED = {"gpu": "t4", "pim": "pim-gpt", "cpu": "xeon-6154", "fpga": "u280"}


def own_copy(kind: str, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(find_preset(f"{kind}/{SHIPPED[kind]}")[1].file, file)
    return file


def test_every_target_has_a_device_here() -> None:
    assert set(SHIPPED) == set(target_names())


@pytest.mark.parametrize("kind", SHIPPED)
@pytest.mark.parametrize("place", ["mine.yaml", "own devices/my v1.2.yaml", "absolute"])
def test_an_own_device_is_simulated(
    kind: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_onnx.mlp(), tmp_path / "m.onnx")
    file = tmp_path / "elsewhere.yaml" if place == "absolute" else Path(place)
    own_copy(kind, file)
    shipped = f"{kind}/{SHIPPED[kind]}"
    run = tetrasim.simulate(
        "m.onnx", on=[shipped, f"{kind}/{file}"], dims={"rows": 4}, numerics=False, use_cache=False
    )
    one, two = run.results
    assert two.preset == f"{kind}/{file.stem}"
    assert two.latency.value == one.latency.value
    assert f"{kind}/{file}" in two.provenance.command.replace("'", "")


def test_an_own_device_called_like_one_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_onnx.mlp(), tmp_path / "m.onnx")
    for folder, count in (("a", 4), ("b", 2)):
        file = own_copy("gpu", Path(folder, "t4.yaml"))
        file.write_text(file.read_text().replace("sm_count: {value: 40", f"sm_count: {{value: {count}"))
    assert set_up("gpu/a/t4.yaml").config.model_dump()["sm_count"] == 4
    run = tetrasim.simulate(
        "m.onnx", on=["gpu/t4", "gpu/a/t4.yaml", "gpu/b/t4.yaml"], dims={"rows": 4096}, numerics=False
    )
    assert [r.preset for r in run.results] == ["gpu/t4", "gpu/a/t4.yaml", "gpu/b/t4.yaml"]
    whole, four, two = (r.latency.value for r in run.results)
    assert whole < four < two
    folder = run.save("out")
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == [
        "gpu-a-t4.yaml",
        "gpu-b-t4.yaml",
        "gpu-t4",
    ]


def test_a_missing_file_and_a_misspelt_device(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        set_up_all([f"gpu/{tmp_path}/none.yaml"], {})
    with pytest.raises(UserError) as refusal:
        set_up_all(["gpu/h100"], {})
    assert "gpu/h100-sxm" in refusal.value.hint


def test_a_setting_names_a_device_file_as_reports_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = own_copy("gpu", Path("own devices/t4.yaml"))
    names = ["gpu/t4", f"gpu/{file}"]
    for word in (f"gpu/{file}", "gpu/t4.yaml", f"gpu/{file.absolute()}", f"gpu/x/../{file}"):
        shipped, own = set_up_all(names, {f"{word}:sm_count": 4})
        assert dict(own.overrides) == {"sm_count": 4}
        assert shipped.overrides == ()
    monkeypatch.chdir(tmp_path.parent)  # a path that is the end of the file's, from any folder
    (own,) = set_up_all([f"gpu/{tmp_path}/{file}"], {f"gpu/{file}:sm_count": 4})
    assert dict(own.overrides) == {"sm_count": 4}
    monkeypatch.chdir(tmp_path)
    shipped, own = set_up_all(names, {"gpu/t4:sm_count": 4})  # the same spelling comes first
    assert dict(shipped.overrides) == {"sm_count": 4}
    (only,) = set_up_all(names[1:], {"gpu/t4:sm_count": 4})
    assert dict(only.overrides) == {"sm_count": 4}
    with pytest.raises(UserError, match="not among --on"):
        set_up_all(names, {"gpu/mine:sm_count": 4})


def test_a_format_that_one_device_has_no_unit_for_is_for_the_others() -> None:
    new, old = set_up_all(["gpu/h100-sxm", "gpu/t4"], {"precision": "float8"})
    assert dict(new.overrides) == {"precision": "float8"}
    assert old.overrides == ()
    assert "precision=float8 is not for gpu/t4" in old.notes[0]
    with pytest.raises(UserError, match="no unit for float8") as refusal:
        set_up_all(["gpu/t4"], {"precision": "float8"})
    assert refusal.value.where == "--precision"
