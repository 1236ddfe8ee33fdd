"""The rules of the code base that no linter knows: import order, sizes, sources of numbers, no local path."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import grimp
import networkx as nx
import pytest

from tetrasim.hw_targets.registry import find_preset, preset_names, target_names

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tetrasim"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_MODULE_LINES = 500
MEDIAN_MODULE_LINES = 150
MAX_FUNCTION_LINES = 60
# A compiled loop keeps its state in local variables, which splitting it would pass around.
MAX_KERNEL_LINES = 150
# Words that only make sense on one machine; user-facing text and code must not contain them.
LOCAL_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|work|opt|mnt|tmp)/\w")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_import_contracts() -> None:
    """The layers and independence rules of pyproject.toml."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_no_circle_of_imports() -> None:
    """Between any modules, imports inside functions counted, those for type checkers alone left out."""
    graph = grimp.build_graph("tetrasim", exclude_type_checking_imports=True, cache_dir=None)
    arrows = nx.DiGraph(
        (module, other)
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
    )
    circles = [sorted(found) for found in nx.strongly_connected_components(arrows) if len(found) > 1]
    assert circles == []


def test_module_sizes() -> None:
    lines = {relative(f): len(f.read_text(encoding="utf-8").splitlines()) for f in MODULES}
    assert {name: n for name, n in lines.items() if n >= MAX_MODULE_LINES} == {}
    assert statistics.median(n for n in lines.values() if n) < MEDIAN_MODULE_LINES


def test_function_sizes() -> None:
    long = {}
    for file in MODULES:
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = _code_lines(node, text.splitlines())
                if length >= (MAX_KERNEL_LINES if _is_kernel(node) else MAX_FUNCTION_LINES):
                    long[f"{relative(file)}:{node.name}"] = length
    assert long == {}


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Lines of the body that hold code: without signature, docstring and comments."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    if not body:
        return 0
    inside = lines[body[0].lineno - 1 : node.end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in inside)


def _is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(d) == "jit" for d in node.decorator_list)


def test_every_module_opens_with_its_theory() -> None:
    silent = [
        relative(file)
        for file in MODULES
        if (tree := ast.parse(file.read_text(encoding="utf-8"))).body and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_library_code_does_not_print_or_unpickle() -> None:
    found = []
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "pprint", "eval", "exec", "os.system"):
                found.append(f"{relative(file)}:{node.lineno} {called}")  # type: ignore[attr-defined]
            names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if {"pickle", "dill", "cloudpickle", "joblib"} & {n.split(".")[0] for n in (*names, module)}:
                found.append(f"{relative(file)}:{node.lineno} pickle")  # type: ignore[attr-defined]
    assert found == []


def test_yaml_is_loaded_safely() -> None:
    loose = re.compile(r"yaml\.(load|load_all|full_load|unsafe_load)\(")
    assert [relative(f) for f in MODULES if loose.search(f.read_text(encoding="utf-8"))] == []


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError\(\)")
    assert [relative(f) for f in MODULES if marks.search(f.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("preset", preset_names())
def test_every_number_of_a_preset_names_its_source(preset: str) -> None:
    _, found = find_preset(preset)
    assert found.sources, "a device without a single number"
    assert all(source.source.strip() for source in found.sources)
    assert "/" in found.name
    assert found.name == found.name.lower()


def test_every_test_file_has_a_name_of_its_own() -> None:
    """pytest collects none of two test files of one name."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_no_path_of_one_machine() -> None:
    """Tracked text files name no folder of the machine they were written on."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if (
            not file.is_file()
            or file.suffix in (".gz", ".bin", ".png")
            or file.name == "test_architecture.py"
        ):
            continue
        text = file.read_text(encoding="utf-8", errors="ignore")
        found += [f"{name}: {m.group()}" for m in LOCAL_PATH.finditer(text)]
    assert found == []


LINKS = ("sim", "export", "hw_targets", "models", "reports")


@pytest.mark.parametrize("name", LINKS)
def test_a_link_of_the_top_level_is_no_second_package(name: str) -> None:
    """From the repository's root `import sim` would load every module again, under another name."""
    assert (ROOT / name).resolve() == PACKAGE / name
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"write `import tetrasim.{name}`" in done.stderr


def test_no_class_of_a_module_is_swapped() -> None:
    swaps = re.compile(r"__class__\s*=|sys\.modules\[[^]]+\]\s*=")
    assert [relative(f) for f in MODULES if swaps.search(f.read_text(encoding="utf-8"))] == []


def test_no_target_knows_another() -> None:
    """Every folder with a `target.py`, also one added tomorrow; imports inside functions count."""
    folders = [PACKAGE / "hw_targets" / name for name in target_names()]
    names = {folder.name for folder in folders}
    found = []
    for folder in folders:
        others = re.compile(rf"tetrasim\.hw_targets\.(?:{'|'.join(sorted(names - {folder.name}))})\b")
        for file in folder.rglob("*.py"):
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
            found += [f"{relative(file)}:{n.lineno}" for n in imports if others.search(ast.unparse(n))]
    assert found == []
