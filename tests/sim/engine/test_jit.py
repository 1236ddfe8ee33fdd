"""Machine code is kept per text of all kernels: an edit in any of them is never missed."""

import os
import subprocess
import sys
from pathlib import Path

from tetrasim.sim.engine.jit import kernel_digest, kernel_folder

INNER = "from tetrasim.sim.engine.jit import jit\n\n\n@jit\ndef inner(x):\n    return x + {}\n"
OUTER = """from pathlib import Path
from tetrasim.sim.engine import jit as kernels

kernels._PACKAGE = Path(__file__).parent  # before any kernel is defined
from inner_kernel import inner


@kernels.jit
def outer(x):
    return inner(x)


print(outer(1))
"""


def _run(folder: Path) -> str:
    # The script imports its neighbour, which the command line forbids the processes that it starts.
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "outer_kernel.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_edit_in_a_called_kernel_is_seen_by_the_next_process(tmp_path: Path) -> None:
    (tmp_path / "outer_kernel.py").write_text(OUTER)
    (tmp_path / "inner_kernel.py").write_text(INNER.format(1))
    assert _run(tmp_path) == "2"
    (tmp_path / "inner_kernel.py").write_text(INNER.format(10))
    assert _run(tmp_path) == "11"


def test_the_digest_follows_kernels_only(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(INNER.format(1))
    (tmp_path / "b.py").write_text("x = 1\n")
    first = kernel_digest(tmp_path)
    (tmp_path / "b.py").write_text("x = 2\n")
    assert kernel_digest(tmp_path) == first
    (tmp_path / "a.py").write_text(INNER.format(2))
    assert kernel_digest(tmp_path) != first


def test_a_chosen_folder_is_used(tmp_path: Path) -> None:
    assert kernel_folder(str(tmp_path)).parent == tmp_path
