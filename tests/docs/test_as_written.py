"""Every command of README and docs works as it is spelled, from any folder.

The folder has a space in its name and holds files called like modules that commands import, directly or in
the processes that they start: none of them may be executed. The pages' commands run in their order in one
folder; those that take long (a model of 100 million parameters, a study) are marked slow. A second test runs
every command of the program once on small inputs.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import yaml
from golden.combinations import CONFIGURATIONS
from onnx_models import f32, model, node

from tetrasim.cli._discover import command_files

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Modules of the standard library, of dependencies, of this package, and the names of the links to its parts.
HOSTILE = (
    "random", "typing", "types", "json", "statistics", "string", "queue", "numpy", "numba", "onnx", "yaml",
    "torch", "sim", "export", "reports", "hw_targets", "tetrasim", "sitecustomize", "usercustomize",
)  # fmt: skip
PACKAGES = ("models", "pydantic", "onnxruntime")
SLOW = re.compile(r"gpt2-small|bert-base|llama|jet-btag|dse |out/gpt2|exported/")
# What no test machine has, and why.
NOT_RUN = {
    "calibrate cpu": "measures the machine for minutes, which other tests would disturb",
    "--cluster slurm": "needs a batch system",
    "out/dse-fpga_digits 16": "which trials there are depends on how long the study ran",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as hostile as a folder of the user's can be by accident."""
    made = tmp_path / "my models"
    made.mkdir()
    trap = (
        "import pathlib\npathlib.Path(__file__ + '.executed').touch()\nraise SystemExit('the wrong module')\n"
    )
    for name in HOSTILE:
        (made / f"{name}.py").write_text(trap, encoding="utf-8")
    for name in PACKAGES:
        (made / name).mkdir()
        (made / name / "__init__.py").write_text(trap, encoding="utf-8")
    return made


def run(commands: list[list[str]], folder: Path) -> list[tuple[int, str, str, float]]:
    """Run them in `folder`; nothing of it may have been executed."""
    listed = folder.parent / "commands.json"
    listed.write_text(json.dumps(commands), encoding="utf-8")
    script = [sys.executable, str(Path(__file__).with_name("as_written.py")), str(listed)]
    done = subprocess.run(script, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert [file.name for file in folder.rglob("*.executed")] == []
    return [tuple(told) for told in json.loads(done.stdout.splitlines()[-1])]


def all_fine(commands: list[list[str]], folder: Path) -> list[str]:
    """Run them; each ends with exit code 0. Returns what each printed."""
    told = run(commands, folder)
    for words, (code, out, err, seconds) in zip(commands, told, strict=True):
        sys.stderr.write(f"{seconds:6.1f} s  {shlex.join(words)}\n")
        assert code == 0, (words, out, err)
    return [out for _, out, _, _ in told]


def commands_of(page: Path) -> list[list[str]]:
    """The `tetrasim` commands of a page's shell blocks, as spelled."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [line.split("&&")[-1].strip() for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("tetrasim ")]


def inputs(folder: Path) -> None:
    """The files that the pages speak of: a model with two open dims, a table of ops, a model of one's own, a
    study, and finished runs."""
    rows, width = ("batch", "seq", 16), 16
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    onnx.save(model(nodes, {"x": rows}, ["y"], {"w": f32(width, width)}), folder / "model.onnx")
    (folder / "ops.csv").write_text("op,dtype,m,n,k\nmatmul,bf16,128,4096,4096\n", encoding="utf-8")
    shutil.copy(ROOT / "tetrasim" / "models" / "presets" / "llama2-7b.yaml", folder / "my-llama.yaml")
    shutil.copytree(ROOT / "examples", folder / "examples")


def test_the_commands_of_the_tutorials(folder: Path) -> None:
    inputs(folder)
    wanted = [
        words
        for page in PAGES
        for words in commands_of(page)
        if not SLOW.search(" ".join(words)) and not any(no in " ".join(words) for no in NOT_RUN)
        if words[0] != "COMMAND" and "…" not in " ".join(words)
    ]
    seen = {words[0] for words in wanted}
    assert {"import", "run", "op", "whatif", "diff", "compare"} <= seen
    shape = ["--dim", "batch=1", "seq=8", "--no-numerics", "-q", "-o"]
    finished = [
        ["run", "model.onnx", "--on", on, *shape, f"out/{name}"]
        for name, on in (
            ("RUN", "gpu/t4"),
            ("RUN_A", "gpu/t4"),
            ("RUN_B", "gpu/l4"),
            ("a", "gpu/t4"),
            ("b", "gpu/l4"),
        )
    ]
    all_fine([*finished, *wanted], folder)


def every_command() -> list[list[str]]:
    """Each command of the program once or more, on small inputs, with relative paths."""
    shape = ["--dim", "batch=1", "seq=1"]
    return [
        [
            "run",
            "model.onnx",
            "--on",
            "gpu/t4",
            "gpu/own devices/t4.yaml",
            "pim/aim",
            *shape,
            "-o",
            "out/one",
        ],
        ["run", "--lock", "out/one/config.lock.yaml", "-o", "out/two"],
        ["whatif", "out/one", "dram.bandwidth=1.25x"],
        ["compare", "out/one", "out/two", "-o", "out/both.html"],
        ["diff", "out/one", "out/two"],
        ["import", "model.onnx", *shape],
        ["op", "matmul", "--m", "8", "--n", "64", "--k", "64", "--on", "gpu/own devices/t4.yaml"],
        ["show", "gpu/own devices/t4.yaml"],
        ["list", "targets"],
        ["export", "tiny.yaml", "-o", "exported/tiny"],
        [
            "run",
            "exported/tiny",
            "--on",
            "fpga/u280",
            "--prompt",
            "8",
            "--generate",
            "2",
            "-o",
            "out/three",
            "-q",
        ],
        ["show", "mapping", "tiny.yaml", "--on", "pim/pim-gpt"],
        ["hls", "model.onnx", *shape, "--reuse", "1", "--samples", "10", "-o", "build/project", "-q"],
        ["dse", "run", "study.yaml", "--workers", "2", "-o", "out/study", "-q"],
        ["dse", "report", "out/study"],
        ["validate", "pim"],
        ["doctor"],
    ]


def test_every_command_with_small_inputs(folder: Path) -> None:
    inputs(folder)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIGURATIONS["small-gpt"]), encoding="utf-8")
    (folder / "own devices").mkdir()
    shipped = ROOT / "tetrasim" / "hw_targets" / "gpu" / "presets" / "t4.yaml"
    shutil.copy(shipped, folder / "own devices")
    study = {
        "model": {"preset": "digits-tiny"},
        "targets": {"gpu/t4": {"launch": ["graph", "eager"]}, "gpu/own devices/t4.yaml": {}},
        "objectives": ["latency_us"],
        "search": {"sampler": "grid", "trials": 3},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    wanted = every_command()
    # Calibration measures the machine; `dram` has a test of its own with the device files it needs.
    assert set(command_files()) - {words[0] for words in wanted} <= {"calibrate", "dram", "explain"}
    all_fine(wanted, folder)


@pytest.mark.parametrize("module", ["tetrasim", "tetrasim.dse.worker"])
def test_python_m_imports_nothing_from_the_working_folder(module: str, folder: Path) -> None:
    # `-m` looks for the module itself in the working folder first, and Python needs `types` for the search.
    (folder / "tetrasim.py").unlink()
    (folder / "types.py").unlink()
    command = [sys.executable, "-m", module, "list", "models"]
    done = subprocess.run(command, cwd=folder, input="", capture_output=True, text=True, check=False)
    assert [file.name for file in folder.rglob("*.executed")] == []
    if module == "tetrasim":
        assert done.returncode == 0, done.stderr
        assert "gpt2-small" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_long_commands_of_a_page(page: Path, folder: Path) -> None:
    inputs(folder)
    wanted = [
        words
        for words in commands_of(page)
        if SLOW.search(" ".join(words)) and not any(no in " ".join(words) for no in NOT_RUN)
    ]
    shutil.copytree(ROOT / "examples", folder / "examples", dirs_exist_ok=True)
    for words in wanted:
        given = [_newest(word, folder) for word in words]
        if any("out/gpt2" in word and not (folder / word).exists() for word in given):
            all_fine(
                [["run", "gpt2-small", "--on", "gpu/t4", "-o", "out/gpt2", "-q", "--no-numerics"]], folder
            )
        all_fine([given], folder)


def _newest(word: str, folder: Path) -> str:
    """`out/gpt2-small-…/file` with the folder that a command before has written."""
    if "…" not in word:
        return word
    found = sorted(folder.glob(word.replace("…", "*")), key=lambda path: path.stat().st_mtime)
    return str(found[-1].relative_to(folder)) if found else word
