"""Targets and presets, found by location: a folder with `target.py` is a target, a YAML file is a preset."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from pathlib import Path

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.presets import Preset, load_preset, preset_files
from tetrasim.hw_targets.common.target import Config, Target
from tetrasim.hw_targets.common.user_presets import user_preset_file

_HERE = Path(__file__).parent


@cache
def target_names() -> tuple[str, ...]:
    """Every target folder, without importing any."""
    return tuple(sorted(p.parent.name for p in _HERE.glob("*/target.py") if p.parent.name != "common"))


@cache
def preset_names() -> tuple[str, ...]:
    """`gpu/t4`, …: every preset that ships."""
    return tuple(f"{name}/{file.stem}" for name in target_names() for file in preset_files(_HERE / name))


def load_target(name: str) -> Target[Config]:
    """The target called `name`.

    Raises:
        UserError: no such target.
    """
    if name not in target_names():
        raise UserError(f"unknown target '{name}'", hint=nearest(name, target_names()))
    module = importlib.import_module(f"tetrasim.hw_targets.{name}.target")
    target: Target[Config] = module.TARGET
    return target


def find_preset(name: str) -> tuple[Target[Config], Preset[Config]]:
    """Target and preset of `gpu/t4`, or of `gpu` with a user's file (`gpu/path/to/mine.yaml`). A preset of
    the same name in the user's own folder (a calibrated `cpu/host`) comes before the one that ships.

    Raises:
        UserError: unknown target or preset, with the nearest name.
    """
    kind, _, rest = name.partition("/")
    if kind not in target_names():
        raise UserError(f"unknown target '{name}'", hint=nearest(name, preset_names()))
    target = load_target(kind)
    if rest.endswith((".yaml", ".yml")):
        return target, _own_preset(kind, Path(rest).expanduser(), target)
    if name not in preset_names():
        raise UserError(
            f"unknown preset '{name}'", hint=nearest(name, [p for p in preset_names() if p.startswith(kind)])
        )
    own = user_preset_file(name)
    shipped = _HERE / kind / "presets" / f"{rest}.yaml"
    if not own.is_file():
        return target, load_preset(shipped, name, target.config_type)
    try:
        return target, load_preset(own, name, target.config_type)
    except UserError as failure:
        raise UserError(
            failure.what,
            where=failure.where,
            hint=f"this file of yours comes before the preset that ships: remove it, or write it again"
            f" (`tetrasim calibrate {kind}`)",
        ) from None


def _own_preset(kind: str, file: Path, target: Target[Config]) -> Preset[Config]:
    """A device file of the user's, `gpu/mine`; one called like a device that ships keeps its suffix."""
    name = f"{kind}/{file.stem}"
    shown = f"{kind}/{file.name}" if name in preset_names() else name
    return replace(load_preset(file, shown, target.config_type), own=True)
