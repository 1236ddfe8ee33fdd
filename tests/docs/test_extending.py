"""The extension pages of docs/extend/ work as written, in a copy of the package.

A code block with a title is a file. The commands of the shell block are then run from another folder, and
each line of a `text` block must be printed by one of them. The number of files is what the page promises
(`FILES`): adding a thing touches so many files and no other.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs" / "extend").glob("*.md"))
# Files that a reader creates or changes; an HLS primitive brings its kernel text along.
FILES = {
    "attention_schedule": 1,
    "device": 1,
    "dram_standard": 1,
    "hls_primitive": 2,
    "op": 1,
    "report_format": 1,
    "target": 2,
}
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", flags=re.S | re.M)


@dataclass(frozen=True)
class Page:
    files: dict[str, str]
    commands: list[str]
    printed: list[str]


def read(path: Path) -> Page:
    files, commands, printed = {}, [], []
    for language, title, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        if title:
            files[title] = text
        elif language == "sh":
            commands += text.replace("\\\n", " ").splitlines()
        elif language == "text":
            printed += text.splitlines()
    return Page(files, [line for line in commands if line.strip()], printed)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_page_works_as_written(path: Path, tmp_path: Path) -> None:
    page = read(path)
    assert len(page.files) == FILES[path.stem], sorted(page.files)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tetrasim", tmp_path / "copy" / "tetrasim", ignore=ignored)
    for name, text in page.files.items():
        file = tmp_path / "copy" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "copy"), "TETRASIM_TRACEBACK": "1"}
    said = ""
    for line in page.commands:
        python = f'"{sys.executable}"'
        command = f"{python} -m {line}" if line.startswith("tetrasim ") else line
        command = f"{python}{line.removeprefix('python')}" if line.startswith("python ") else command
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stdout[-2000:], done.stderr[-2000:])
        said += done.stdout
    assert [line for line in page.printed if line not in said] == []
