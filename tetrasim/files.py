"""Folders that are complete or absent: written beside their place, and renamed into it at the end."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tetrasim.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def new_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds.

    If another process finished the same target first, its folder is kept, unless `replace`.

    Raises:
        UserError: when the place cannot be written, or is full.
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
    except OSError as err:
        if err.errno not in _FULL:
            raise
        raise UserError(
            f"no room left in '{target.parent}': {err.strerror}",
            hint="free some space, set TETRASIM_CACHE to another disk, or export with --weights none",
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
