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
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from tetrasim.errors import UserError

_PACKAGES = ("torch", "onnxscript", "onnx_ir", "onnx")


def cache_root() -> Path:
    """`$TETRASIM_CACHE`, else `$XDG_CACHE_HOME/tetrasim`, else `~/.cache/tetrasim`."""
    chosen = os.environ.get("TETRASIM_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tetrasim"


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


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def new_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds.

    If another process finished the same target first, its folder is kept, unless `replace`.

    Raises:
        UserError: when the place cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as err:
        raise UserError(
            f"cannot write to '{target.parent}': {err.strerror}",
            hint="set TETRASIM_CACHE or give an output folder that you can write",
        ) from None
    try:
        yield work
        work.chmod(0o755)
        if replace and target.exists():
            shutil.rmtree(target)
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
