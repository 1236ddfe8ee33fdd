"""The run folder: all formats of one document, written beside its place and renamed into it at the end.

DIR/report.json index.html ops.csv trace.pftrace config.lock.yaml      every target, compared
DIR/gpu-t4/…                                                          the same five files for one target
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.files import write as files

LOCK_NAME = "config.lock.yaml"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Contents of one folder: file name -> bytes."""

    files: tuple[tuple[str, bytes], ...]


def folder_name(preset: str) -> str:
    """`gpu/t4` -> `gpu-t4`; anything but letters, digits, dot, dash is replaced (names reach no path raw)."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", preset).strip("-.") or "target"


def check_free(folder: Path, force: bool) -> None:
    """Refuse, before any work is done, a folder that must not be replaced.

    Raises:
        UserError: it exists and is not empty, or `force` would delete something that is not a run folder.
    """
    files.check_free(folder, LOCK_NAME, force=force)


def write(folder: Path, top: RunFiles, parts: Mapping[str, RunFiles], force: bool) -> None:
    """Write everything to a temporary sibling, then rename it: never a partial run folder.

    Raises:
        UserError: the place is taken or cannot be written.
    """
    check_free(folder, force)
    with files.new_folder(folder, replace=True) as staged:
        _fill(staged, top)
        for name, part in parts.items():
            _fill(staged / name, part)


def _fill(folder: Path, content: RunFiles) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.files:
        (folder / name).write_bytes(data)


def check_file_free(file: Path, force: bool) -> None:
    """Refuse a file that holds something.

    Raises:
        UserError: it exists, is not empty, and `force` is not given; or it is a folder, a device or a link.
    """
    files.check_file(file)
    if file.exists() and file.stat().st_size and not force:
        raise UserError(f"'{file}' exists", where="-o", hint="name another file, or replace it with --force")


def write_file(file: Path, text: str, force: bool) -> None:
    """One output file, atomically.

    Raises:
        UserError: it exists and `force` is not given, or cannot be written.
    """
    check_file_free(file, force)
    files.write_file(file, text)
