"""The run folder: all formats of one document, written beside its place and renamed into it at the end.

DIR/report.json index.html ops.csv trace.pftrace config.lock.yaml      every target, compared
DIR/gpu-t4/…                                                          the same five files for one target
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tetrasim.errors import UserError

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
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"'{folder}' is a file", where="-o", hint="name a folder that does not exist")
    if not any(folder.iterdir()):
        return
    if not force:
        raise UserError(
            f"the output folder '{folder}' exists",
            where="-o",
            hint="name another one, or replace it with --force",
        )
    if not (folder / LOCK_NAME).is_file():
        raise UserError(
            f"'{folder}' is no run folder (it has no {LOCK_NAME}), so --force does not delete it",
            where="-o",
            hint="name another folder, or delete it yourself",
        )


def write(folder: Path, top: RunFiles, parts: Mapping[str, RunFiles], force: bool) -> None:
    """Write everything to a temporary sibling, then rename it: never a partial run folder.

    Raises:
        UserError: the place is taken or cannot be written.
    """
    check_free(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            staged = Path(scratch) / "run"
            _fill(staged, top)
            for name, files in parts.items():
                _fill(staged / name, files)
            if folder.exists():
                folder.rename(Path(scratch) / "replaced")
            staged.rename(folder)
    except OSError as failure:
        raise UserError(
            f"cannot write the output folder: {failure.strerror}",
            where=str(folder),
            hint="check the path and its rights",
        ) from None


def _fill(folder: Path, content: RunFiles) -> None:
    folder.mkdir(parents=True)
    for name, data in content.files:
        (folder / name).write_bytes(data)


def check_file_free(file: Path, force: bool) -> None:
    """Refuse a file that holds something.

    Raises:
        UserError: it exists, is not empty, and `force` is not given; or it is a folder.
    """
    if file.is_dir():
        raise UserError(f"'{file}' is a folder", where="-o", hint="name a file")
    if file.exists() and file.stat().st_size and not force:
        raise UserError(f"'{file}' exists", where="-o", hint="name another file, or replace it with --force")


def write_file(file: Path, text: str, force: bool) -> None:
    """One output file, atomically.

    Raises:
        UserError: it exists and `force` is not given, or cannot be written.
    """
    check_file_free(file, force)
    try:
        handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        shutil.copymode(file, scratch) if file.exists() else Path(scratch).chmod(0o644)
        Path(scratch).replace(file)
    except OSError as failure:
        raise UserError(
            f"cannot write '{file}': {failure.strerror}", where="-o", hint="check the folder"
        ) from None
