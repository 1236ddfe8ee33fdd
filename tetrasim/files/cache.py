"""Where tetrasim keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from tetrasim.errors import UserError


def cache_root() -> Path:
    """`$TETRASIM_CACHE`, else `$XDG_CACHE_HOME/tetrasim`, else `~/.cache/tetrasim`.

    Raises:
        UserError: none is set and the system knows no home folder of this user.
    """
    chosen, base = os.environ.get("TETRASIM_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return (Path(base) if base else Path.home() / ".cache") / "tetrasim"
    except RuntimeError:  # no HOME, and no entry of this user in the password file
        raise UserError(
            "no home folder is known, so there is no place for the cache",
            hint="set TETRASIM_CACHE to a folder",
        ) from None
