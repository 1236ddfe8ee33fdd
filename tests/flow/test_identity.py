"""A cached result covers every byte that decides it; damaged and changed caches are made again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tetrasim import facade
from tetrasim.errors import UserError
from tetrasim.export.exporter import export_model
from tetrasim.files.read import inside
from tetrasim.flow.loading import find_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One export, to be copied."""
    folder = tmp_path_factory.mktemp("export") / "jet"
    export_model("jet-btag", weights="random", check=False, output=folder)
    return folder


def _with_side_file(scale: float, where: str) -> onnx.ModelProto:
    """x @ w + c: w in a side file of the initializer, or of a constant in the branch of an If."""
    array = np.full((16, 16), scale, np.float32)
    Path("m.data").write_bytes(array.tobytes())
    tensor = numpy_helper.from_array(array, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "m.data"), ("offset", "0"), ("length", str(array.nbytes))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")]
    weights = [tensor]
    if where == "branch":
        value = helper.make_tensor_value_info("b", TensorProto.FLOAT, [16, 16])
        branch = helper.make_graph([helper.make_node("Constant", [], ["b"], value=tensor)], "b", [], [value])
        flag = numpy_helper.from_array(np.array(True), "t")
        nodes.insert(
            0, helper.make_node("If", ["t"], ["w"], then_branch=branch, else_branch=branch, name="if")
        )
        weights = [flag]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("where", ["initializer", "branch"])
@pytest.mark.usefixtures("cache")
def test_side_files_are_part_of_a_models_identity(where: str) -> None:
    model = _with_side_file(1.0, where)
    onnx.save(model, "m.onnx")
    first = find_model("m.onnx").sha256
    os.utime("m.onnx")
    assert find_model("m.onnx").sha256 == first
    stamp = Path("m.data").stat()
    _with_side_file(2.0, where)
    os.utime("m.data", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the same name, size and time
    assert find_model("m.onnx").sha256 != first


@pytest.mark.usefixtures("cache")
def test_changed_weights_give_another_result() -> None:
    ranges = []
    for scale in (1.0, 1000.0):
        onnx.save(_with_side_file(scale, "initializer"), "m.onnx")
        numerics = facade.simulate("m.onnx", "cpu/xeon-6154").results[0].numerics
        assert numerics is not None
        ranges.append(numerics.output_range)
    assert ranges[1] == pytest.approx(1000 * ranges[0], rel=1e-3)


@pytest.mark.usefixtures("cache")
def test_an_exported_folder_is_its_bytes(exported: Path) -> None:
    shutil.copytree(exported, "ex")
    first = find_model("ex").sha256
    weights = bytearray(Path("ex/weights.bin").read_bytes())
    weights[len(weights) // 2] ^= 0x55
    Path("ex/weights.bin").write_bytes(weights)
    second = find_model("ex").sha256
    assert second != first
    os.truncate("ex/forward.onnx", 100)
    assert find_model("ex").sha256 not in (first, second)
    with pytest.raises(UserError, match="truncated"):
        facade.simulate("ex", "gpu/t4", numerics=False)
    Path("ex/forward.onnx").unlink()
    with pytest.raises(UserError, match="no such file"):
        find_model("ex")


@pytest.mark.parametrize("name", ["../jet/forward.onnx", "/etc/hostname", "link.onnx", "", "a\\b"])
@pytest.mark.usefixtures("cache")
def test_a_manifest_names_files_of_its_folder_only(exported: Path, name: str) -> None:
    shutil.copytree(exported, "ex")
    shutil.copytree(exported, "jet")
    Path("ex/link.onnx").symlink_to("../jet/forward.onnx")
    tree = json.loads(Path("ex/manifest.json").read_text(encoding="utf-8"))
    tree["phases"][0]["file"] = name
    Path("ex/manifest.json").write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(UserError, match="leads out of the folder"):
        find_model("ex")


def test_inside_follows_links() -> None:
    assert inside(Path("/proc"), "self/../../etc") is None
    assert inside(Path("/proc"), "x\0y") is None


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


def _flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x11
    file.write_bytes(data)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


DAMAGE: list[Callable[[Path], None]] = [_emptied, _flipped, _cut, Path.unlink]


@pytest.mark.parametrize("name", ["result.json", "trace.pftrace", "sha256"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_result_is_made_again(cache: Path, name: str, damage: Callable[[Path], None]) -> None:
    onnx.save(_with_side_file(1.0, "initializer"), "m.onnx")
    good = facade.simulate("m.onnx", "gpu/t4", numerics=False).to_json()
    (entry,) = cache.glob("results/*/*")
    kept = {file.name: file.read_bytes() for file in entry.iterdir()}
    damage(entry / name)
    assert facade.simulate("m.onnx", "gpu/t4", numerics=False).to_json() == good
    assert {file.name: file.read_bytes() for file in entry.iterdir()} == kept


def test_a_changed_result_is_not_served(cache: Path) -> None:
    onnx.save(_with_side_file(1.0, "initializer"), "m.onnx")
    good = facade.simulate("m.onnx", "gpu/t4", numerics=False).to_json()
    (file,) = cache.glob("results/*/*/result.json")
    file.write_text(file.read_text(encoding="utf-8").replace('"value": ', '"value": 1'), encoding="utf-8")
    assert facade.simulate("m.onnx", "gpu/t4", numerics=False).to_json() == good


@pytest.mark.parametrize("name", ["manifest.json", "forward.onnx", "weights.bin"])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.usefixtures("cache")
def test_a_damaged_export_is_made_again(exported: Path, name: str, damage: Callable[[Path], None]) -> None:
    """The export of the cache is replaced by a good one, with the same bytes as before."""
    from tetrasim.export import exporter

    job = exporter._job(exporter.resolve("jet-btag"), "random", 0, False)
    place = exporter._cached_folder(job)
    place.parent.mkdir(parents=True)
    shutil.copytree(exported, place)
    assert export_model("jet-btag", weights="random", check=False).cached
    damage(place / name)
    made = export_model("jet-btag", weights="random", check=False)
    assert not made.cached
    assert all((place / f.name).read_bytes() == f.read_bytes() for f in exported.iterdir())
    assert [p.name for p in place.parent.iterdir()] == [place.name]


def test_two_processes_on_a_fresh_cache(cache: Path) -> None:
    onnx.save(_with_side_file(1.0, "initializer"), "m.onnx")
    command = [
        sys.executable,
        "-m",
        "tetrasim",
        "run",
        "m.onnx",
        "--on",
        "gpu/t4",
        "--no-numerics",
        "-q",
        "-o",
    ]
    running = [subprocess.Popen([*command, f"out{i}"], stdout=subprocess.DEVNULL) for i in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    files = [sorted(p.relative_to(f"out{i}") for p in Path(f"out{i}").rglob("*")) for i in range(2)]
    assert files[0] == files[1]
    assert all(
        (Path("out0") / f).read_bytes() == (Path("out1") / f).read_bytes() for f in files[0] if f.suffix
    )
    assert [p for p in cache.rglob(".*")] == []
