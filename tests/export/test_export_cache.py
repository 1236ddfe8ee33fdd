"""Exports are reused by content, appear complete or not at all, and are refused with a reason."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tetrasim.errors import UserError
from tetrasim.export import check
from tetrasim.export.cache import prune
from tetrasim.export.exporter import export_model
from tetrasim.export.manifest import MANIFEST, read_manifest
from tetrasim.files.write import new_folder
from tetrasim.models.weights import random_weight
from tetrasim.models.zoo import preset


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_second_export_is_a_read_without_torch(cache: Path) -> None:
    first = export_model("jet-btag")
    assert not first.cached
    assert first.folder.parent == cache / "exports"
    code = (
        "import sys, time\n"
        "from tetrasim.export.exporter import export_model\n"
        "start = time.perf_counter()\n"
        "found = export_model('jet-btag')\n"
        "assert time.perf_counter() - start < 1.0\n"
        "assert found.cached and found.manifest.parameters == 9135\n"
        "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert export_model("jet-btag", seed=1).folder != first.folder


def test_a_failed_export_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise check.ExportMismatchError("differ")

    monkeypatch.setattr(check, "check_export", fail)
    with pytest.raises(check.ExportMismatchError):
        export_model("digits-tiny")
    assert list((cache / "exports").iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_a_wrong_graph_does_not_pass_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = check.OPENERS["onnxruntime"]

    def off_by_a_bit(path: Path, phase: check.Phase) -> check.Run:
        run = honest(path, phase)
        return lambda feeds: [out + 0.01 for out in run(feeds)]

    monkeypatch.setitem(check.OPENERS, "onnxruntime", off_by_a_bit)
    with pytest.raises(check.ExportMismatchError, match=r"onnxruntime differ by 0\.01"):
        export_model("digits-tiny")


@pytest.mark.usefixtures("cache")
def test_given_weights_are_checked_and_used() -> None:
    from tetrasim.export.exporter import parameter_shapes

    config = preset("digits-tiny")
    weights = {name: random_weight(name, shape, 7) for name, shape in parameter_shapes(config).items()}
    found = export_model(config, weights=weights)
    assert found.manifest.weights == "given"
    assert export_model(config, weights=weights).cached
    weights["head.layers.0.bias"] = weights["head.layers.0.bias"] + np.float32(1)
    assert export_model(config, weights=weights).folder != found.folder
    with pytest.raises(UserError, match=r"has shape \(3,\), not \(10,\)"):
        export_model(config, weights={**weights, "head.layers.0.bias": np.zeros(3, np.float32)})
    weights.pop("head.layers.0.bias")
    with pytest.raises(UserError, match=r"lack 'head\.layers\.0\.bias'"):
        export_model(config, weights=weights)


@pytest.mark.usefixtures("cache")
def test_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from tetrasim.models import digits

    quick = digits.train_digits
    monkeypatch.setattr(digits, "train_digits", lambda config, seed: quick(config, seed=seed, epochs=2))
    found = export_model("digits-tiny", weights="trained")
    assert found.manifest.weights.startswith("trained on digits, seed 0, test accuracy ")
    assert export_model("digits-tiny", weights="trained").cached
    with pytest.raises(UserError, match="does not take the digits"):
        export_model("jet-btag", weights="trained")
    with pytest.raises(UserError, match="unknown weights 'trained!'") as caught:
        export_model("jet-btag", weights="trained!")  # type: ignore[arg-type]
    assert "'trained'" in caught.value.hint


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="exists"):
        export_model("jet-btag", output=tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_manifest_errors_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"schema": "other"}))
    with pytest.raises(UserError, match="not a manifest"):
        read_manifest(tmp_path)


@pytest.mark.usefixtures("cache")
def test_the_least_recently_used_goes_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TETRASIM_CACHE_GB", "2.5e-6")
    now = time.time()
    for name, age in (("old", 9000), ("older", 9500), ("recent", 10), (".abandoned", 1e6), (".running", 1)):
        (cache / "exports" / name).mkdir(parents=True)
        (cache / "exports" / name / "weights.bin").write_bytes(bytes(1000))
        os.utime(cache / "exports" / name, (now - age, now - age))
    prune(keep=cache / "exports" / "recent")
    assert sorted(path.name for path in (cache / "exports").iterdir()) == [".running", "old", "recent"]
    monkeypatch.setenv("TETRASIM_CACHE_GB", "much")
    with pytest.raises(UserError, match="TETRASIM_CACHE_GB is 'much'"):
        prune(keep=cache)


def test_a_full_disk_is_the_users_to_know(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no room is left"), new_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot write") as caught,
        new_folder(tmp_path / "file" / "exports" / "x", hint="set TETRASIM_CACHE"),
    ):
        pass
    assert "TETRASIM_CACHE" in caught.value.hint


def test_no_such_phase() -> None:
    with pytest.raises(UserError, match="no phase 'step'") as caught:
        export_model("jet-btag", check=False).path("step")
    assert "forward" in caught.value.hint
