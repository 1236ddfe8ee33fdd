"""Build wheel and sdist; use the wheel away from the checkout on every Python 3.11 to 3.13 that is there.

    python .ci/wheel.py

Each Python gets a fresh virtual environment with the wheel and what pricing an ONNX file needs. Left out is
torch, which only exporting needs and which is gigabytes where its small build is not at hand. There, one op
is priced and an ONNX file is run on four targets from a folder outside the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
ONLY_FOR_EXPORTS = ("torch", "onnxscript", "hls4ml", "optuna")
MODEL = """
import onnx
from onnx import TensorProto, helper
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 16])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 16])
graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "g", [x], [y])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), "m.onnx")
"""


def run(*command: str | Path, cwd: Path) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "TETRASIM_CACHE": str(cwd / "cache")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def pythons() -> dict[str, Path]:
    """The interpreters by version: those on PATH that start, and those of pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in VERSIONS:
        on_path = shutil.which(f"python{version}")
        candidates = [*sorted(root.glob(f"{version}.*/bin/python")), *([Path(on_path)] if on_path else [])]
        for candidate in candidates:
            if (
                subprocess.run([candidate, "-c", "import venv"], capture_output=True, check=False).returncode
                == 0
            ):
                found[version] = candidate
                break
    return found


def requirements() -> list[str]:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return [one for one in listed if not one.startswith(ONLY_FOR_EXPORTS)]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="wheel of tetrasim ") as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
        (wheel,) = (work / "dist").glob("*.whl")
        (sdist,) = (work / "dist").glob("*.tar.gz")
        print(f"built {wheel.name} ({wheel.stat().st_size // 1024} kB), {sdist.name}")
        for version, python in pythons().items():
            home = work / version
            home.mkdir()
            run(python, "-m", "venv", home / "venv", cwd=home)
            inside = home / "venv" / "bin" / "python"
            run(
                inside,
                "-m",
                "pip",
                "install",
                "-q",
                "-c",
                ROOT / "constraints.txt",
                *requirements(),
                cwd=home,
            )
            run(inside, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=home)
            run(inside, "-c", MODEL, cwd=home)
            tetrasim = home / "venv" / "bin" / "tetrasim"
            run(tetrasim, "op", "matmul", "--m", "64", "--n", "64", "--k", "64", "--on", "gpu/t4", cwd=home)
            targets = ("gpu/t4", "cpu/xeon-6154", "pim/pim-gpt", "fpga/u280")
            run(tetrasim, "run", "m.onnx", "--on", *targets, "-o", "out", cwd=home)
            print(f"Python {version}: priced an op and ran a model on {len(targets)} targets from the wheel")


if __name__ == "__main__":
    main()
