"""The export cache: folders named by the hash of everything that determines their content.

Model dims, phases, weights, seed, exporter code and package versions go into the key, so a change of any
of them is a new folder. A folder appears by one rename, so it is complete or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.files.cache import cache_root

_ABANDONED_S = 24 * 3600
_PACKAGES = ("torch", "onnxscript", "onnx_ir", "onnx")


def exports_folder() -> Path:
    """Where cached exports lie."""
    return cache_root() / "exports"


def size_limit_bytes() -> int:
    """`$TETRASIM_CACHE_GB` (decimal gigabytes), default 10.

    Raises:
        UserError: when it is not a positive number.
    """
    text = os.environ.get("TETRASIM_CACHE_GB", "10")
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e9:
        raise UserError(f"TETRASIM_CACHE_GB is '{text}'", hint="give a number of gigabytes, such as 10")
    return int(limit * 1e9)


def mark_used(folder: Path) -> None:
    """Note that an export was used now: the least recently used one goes first."""
    with contextlib.suppress(OSError):  # a cache that may only be read is still a cache
        os.utime(folder)


def prune(keep: Path) -> None:
    """Remove what killed exports left, and the least recently used exports beyond the size limit, but none
    used within the hour."""
    limit, spared = size_limit_bytes(), time.time() - 3600
    for path in exports_folder().glob(".*"):
        if path.is_dir() and path.stat().st_mtime < time.time() - _ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)
    entries = [
        (path.stat().st_mtime, sum(file.stat().st_size for file in path.iterdir()), path)
        for path in exports_folder().iterdir()
        if path.is_dir() and not path.name.startswith(".")
    ]
    total = sum(size for _, size, _ in entries)
    for used, size, path in sorted(entries):
        if total <= limit:
            return
        if path != keep and used < spared:
            shutil.rmtree(path, ignore_errors=True)
            total -= size


def package_versions() -> tuple[tuple[str, str], ...]:
    """Versions of the packages that write the graphs, read without importing them."""
    return tuple((name, importlib.metadata.version(name)) for name in _PACKAGES)


@cache
def code_hash() -> str:
    """sha256 over the sources of models/ and export/."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for part in ("models", "export"):
        for path in sorted((package / part).rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(inputs: Mapping[str, object]) -> str:
    """The content address of an export."""
    full = {**inputs, "code": code_hash(), "packages": package_versions()}
    return hashlib.sha256(json.dumps(full, sort_keys=True).encode()).hexdigest()
