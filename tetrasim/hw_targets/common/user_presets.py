"""Presets that belong to the user, not to the package: what a calibration writes, looked up first.

`$TETRASIM_CONFIG`, else `$XDG_CONFIG_HOME/tetrasim`, else `~/.config/tetrasim`; in it
`presets/cpu/host.yaml`.
"""

from __future__ import annotations

import os
from pathlib import Path


def user_preset_file(name: str) -> Path:
    """Where the user's own version of the preset `cpu/host` lies, present or not."""
    return config_root() / "presets" / f"{name}.yaml"


def config_root() -> Path:
    """The folder of the user's own files."""
    if explicit := os.environ.get("TETRASIM_CONFIG"):
        return Path(explicit)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "tetrasim"
