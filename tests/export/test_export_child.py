"""An export by another process is the same export; its errors arrive whole, torch stays out of the caller."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tetrasim.errors import UserError
from tetrasim.export import child
from tetrasim.export.exporter import cached_export, export_model
from tetrasim.processes import python_environment


def nothing() -> None:
    """For callers that have nothing to do meanwhile."""


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a caller that looks as if it had not loaded torch."""
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(child, "_torch_is_here", lambda: False)
    return tmp_path


@pytest.mark.usefixtures("apart")
def test_it_is_the_same_export() -> None:
    assert cached_export("jet-btag") is None
    called: list[int] = []
    found = child.export_apart("jet-btag", lambda: called.append(1))
    assert called == [1]
    again = export_model("jet-btag")
    assert (again.cached, again.folder, again.manifest) == (True, found.folder, found.manifest)
    assert child.export_apart("jet-btag", lambda: called.append(2)).cached
    assert called == [1]


def test_the_caller_does_not_load_torch(tmp_path: Path) -> None:
    """A model that is exported without weights."""
    code = (
        "import sys; from tetrasim import facade\n"
        "facade.load('gpt2-medium', prompt=4)\n"
        "assert not {'torch', 'onnxscript'} & set(sys.modules)\n"
    )
    environment = {**python_environment(), "TETRASIM_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_user_errors_arrive_whole(apart: Path) -> None:
    """An error that only the export itself finds: a cache that cannot be written."""
    (apart / "cache").write_text("in the way")
    with pytest.raises(UserError) as there:
        export_model("jet-btag")
    with pytest.raises(UserError) as here:
        child.export_apart("jet-btag", nothing)
    assert str(here.value) == str(there.value)
    assert here.value.hint == there.value.hint != ""


@pytest.mark.parametrize(("code", "message"), [(-9, "stopped by signal 9"), (1, "Traceback of the other")])
def test_other_ends_are_said(code: int, message: str) -> None:
    with pytest.raises(UserError if code < 0 else RuntimeError, match=message):
        child._result("gpt2-small", code, "", "Traceback of the other process")
