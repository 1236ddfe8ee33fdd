"""The one place engines meet numba: a typed, cached `njit`, so that hot loops stay under mypy strict.

numba keeps machine code beside the outermost function's source file and looks at that file alone to see
whether it is stale: a kernel that calls a kernel of another file would go on running the old code after an
edit there. So machine code is kept in a folder named after the text of all files that define kernels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = Path(__file__).parents[2]
_PREFIX = "kernels-"
_STALE_AFTER_S = 7 * 24 * 3600


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile on first call (nopython), keep the machine code on disk for the next process."""
    import numba

    config: Any = import_module("numba.core.config")  # its settings are not declared to type checkers
    # numba reads the folder while it decorates; other users of numba in this process keep theirs
    before = config.CACHE_DIR
    config.CACHE_DIR = str(kernel_folder(before))
    try:
        return cast(Callable[P, R], numba.njit(cache=True, nogil=True)(function))
    finally:
        config.CACHE_DIR = before


@cache
def kernel_folder(chosen: str = "") -> Path:
    """Where the machine code of this version of the kernels is kept: under `chosen` (NUMBA_CACHE_DIR), else
    beside the package, else in the user's cache. Folders of other versions go after a week unused."""
    roots = [Path(chosen)] if chosen else [_PACKAGE / "__pycache__", Path.home() / ".cache" / "tetrasim"]
    name = _PREFIX + kernel_digest(_PACKAGE)
    for root in roots:
        folder = root / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            _forget_old(root, name)
            return folder
    return roots[-1] / name


def kernel_digest(package: Path) -> str:
    """A digest of the text of every file below `package` that defines a kernel."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        text = file.read_bytes()
        if b"@jit" in text or b"njit" in text:
            digest.update(str(file.relative_to(package)).encode() + b"\0" + text)
    return digest.hexdigest()[:16]


def _forget_old(root: Path, current: str) -> None:
    for folder in root.glob(_PREFIX + "*"):
        if folder.name != current and time.time() - folder.stat().st_mtime > _STALE_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)
