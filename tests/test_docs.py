"""The documentation says what is there: links lead somewhere, commands and options exist, code compiles."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tetrasim.cli import main
from tetrasim.cli._discover import command_files

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def commands(page: Path) -> list[list[str]]:
    """`tetrasim …` lines of the shell blocks, continuation lines joined, comments dropped."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [line.split("&&")[-1].strip() for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in found if line.startswith("tetrasim ")]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_options_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page):
        name = words[0]
        if name == "COMMAND":
            continue
        assert name in command_files(), words
        inner = [words[1]] if name in ("dse", "dram", "calibrate") else []
        assert main([name, *inner, "--help"]) == 0
        told = capsys.readouterr().out
        for word in words[1:]:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}\b", told), (words, word)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_snippets_compile(page: Path) -> None:
    for i, code in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    ):
        compile(code, f"{page.name}[{i}]", "exec")


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in command_files() if f"`{name}`" not in text] == []
