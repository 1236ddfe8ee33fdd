"""No library reports home: onnxruntime is loaded in one place, with its telemetry off."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.tiny_onnx import mlp

PACKAGE = Path(__file__).parent.parent / "tetrasim"
RUN = """
import sys
import tetrasim
from tetrasim.onnx_runtime import open_session
session = open_session(sys.argv[1])
assert session.get_outputs()
"""


def test_onnxruntime_is_imported_in_one_place() -> None:
    loads = re.compile(r"^\s*(import onnxruntime|from onnxruntime)|InferenceSession\(", re.M)
    found = [f.name for f in PACKAGE.rglob("*.py") if _loads(f.read_text(encoding="utf-8"), loads)]
    assert found == ["onnx_runtime.py"]


def _loads(text: str, pattern: re.Pattern[str]) -> bool:
    """A use outside of `if TYPE_CHECKING`, which imports nothing."""
    return bool(pattern.search(re.sub(r"(?m)^if TYPE_CHECKING:\n((?:    .*)?\n)*", "", text)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(mlp(rows=4), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_a_session_writes_nothing_under_the_home_folder(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "HF_", "XDG_", "DO_NOT"))}
    environment = {**kept, "HOME": str(home)}
    subprocess.run([sys.executable, "-c", RUN, str(model)], env=environment, check=True)
    assert list(home.rglob("*")) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_run_opens_no_socket_and_writes_no_file_elsewhere(model: Path, tmp_path: Path) -> None:
    """The whole command under strace: nothing but the cache and the output folder is written."""
    home, cache, log = tmp_path / "home", tmp_path / "cache", tmp_path / "log"
    home.mkdir()
    command = [
        sys.executable,
        "-m",
        "tetrasim",
        "run",
        str(model),
        "--on",
        "cpu/xeon-6154",
        "-o",
        "out",
        "-q",
    ]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    environment = {**kept, "HOME": str(home), "TETRASIM_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    work = tmp_path / "work"
    work.mkdir()
    traced = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=socket,connect,open,openat"]
    done = subprocess.run(
        [*traced, *command], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    if "ptrace" in done.stderr:
        pytest.skip("this system does not permit strace")
    assert done.returncode == 0, done.stderr
    lines = log.read_text(errors="replace").splitlines()
    assert [line for line in lines if re.search(r"\b(socket|connect)\(", line) and "AF_INET" in line] == []
    assert [line for line in lines if "resolv.conf" in line or "nsswitch" in line] == []
    assert list(home.rglob("*")) == []
    opened = re.compile(r'openat\(AT_FDCWD, "(/[^"]+)", O_(?:WRONLY|RDWR)')
    written = {m[1] for line in lines if (m := opened.search(line))}
    elsewhere = {p for p in written if not p.startswith((str(tmp_path), "/dev/", "/proc/"))}
    # numba keeps compiled kernels beside the package, as Python keeps its own compiled files.
    assert {p for p in elsewhere if "__pycache__" not in p} == set()
