"""A configured target: made once from what the user named, and carried from there on.

Nobody looks a preset up again by its name: a file of the user's own may be called like one that ships.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.registry import find_preset

if TYPE_CHECKING:
    from tetrasim.hw_targets.common.presets import Preset
    from tetrasim.hw_targets.common.target import Config, Target

Setting = str | int | float | bool
# Parameters that have an option of their own on the command line, for messages.
OPTIONS = {name: f"--{name}" for name in ("precision", "launch", "attention", "fusion")}


@dataclass(frozen=True, eq=False)
class Setup:
    """A target with its final configuration. `preset` is its name in reports, `gpu/t4`; `file` is the user's
    own device file as named, None for a device that ships. `overrides` led to the configuration; `notes` say
    which settings this target does not have."""

    preset: str
    title: str
    marks: tuple[str, ...]
    target: Target[Config]
    config: Config
    file: Path | None = None
    overrides: tuple[tuple[str, Setting], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """How `--on` names it: `gpu/t4`, or `gpu/path/to/mine.yaml`."""
        return self.preset if self.file is None else f"{self.target.name}/{self.file}"


def set_up(preset: str, overrides: Mapping[str, Setting] | None = None) -> Setup:
    """Target and configuration of a preset with dotted-path overrides.

    Args:
        preset: `gpu/t4`, or `gpu/path/to/mine.yaml`.
        overrides: dotted configuration path -> value, checked against the target's configuration.

    Raises:
        UserError: unknown preset or parameter, with the nearest name.
    """
    return _made(*find_preset(preset), overrides or {})


def _made(target: Target[Config], found: Preset[Config], overrides: Mapping[str, Setting]) -> Setup:
    config = with_overrides(found.config, overrides)
    file = found.file if found.own else None
    return Setup(found.name, found.title, found.marks, target, config, file, tuple(overrides.items()))


def called(name: str, word: str) -> bool:
    """Does `word` mean the target that was named `name`? A device file is also called as reports call it:
    `gpu/path/to/mine.yaml` is `gpu/mine`, `gpu/mine.yaml`, `gpu/to/mine.yaml`; or by another path to it."""
    kind, _, rest = name.partition("/")
    other, _, path = word.partition("/")
    if name == word or kind != other or not rest.endswith((".yaml", ".yml")):
        return name == word
    file, said = Path(os.path.abspath(Path(rest).expanduser())), Path(path).expanduser()
    end = said.parts == file.parts[-len(said.parts) :]
    return path == file.stem or end or Path(os.path.abspath(said)) == file


def meant(word: str, names: Sequence[str]) -> str | None:
    """The one of `names` that `word` means, the same spelling first; None where it means none or several."""
    if word in names:
        return word
    found = [name for name in names if called(name, word)]
    return found[0] if len(found) == 1 else None


def set_up_all(names: Sequence[str], settings: Mapping[str, Setting]) -> tuple[Setup, ...]:
    """The targets of one run. A setting `gpu/t4:launch` is for that target; one without a prefix is for every
    target that has it, and the others say in their notes that they do not.

    Raises:
        UserError: unknown preset; a setting for a target that is not among `names`, or that no target takes.
    """
    prefixed = {path: path.rpartition(":")[0] for path in settings if ":" in path}
    takes = {path: meant(prefix, names) for path, prefix in prefixed.items()}
    for path, taker in takes.items():
        if taker is None:
            what = f"--set names '{prefixed[path]}', which is not among --on"
            raise UserError(what, where="--set", hint=nearest(prefixed[path], names))
    presets = [find_preset(name) for name in names]
    common = {path: value for path, value in settings.items() if ":" not in path}
    refused = [_refused(target, found, common) for target, found in presets]
    for path in common:
        if all(path in no for no in refused):
            raise _nobody(path, [no[path] for no in refused], names[0])
    made = []
    for name, (target, found), no in zip(names, presets, refused, strict=True):
        chosen = {path: value for path, value in common.items() if path not in no}
        chosen |= {path.rpartition(":")[2]: settings[path] for path, taker in takes.items() if taker == name}
        takers = {
            path: [n for n, other in zip(names, refused, strict=True) if path not in other] for path in no
        }
        notes = tuple(
            f"{path}={common[path]} is not for {found.name}, which keeps its own"
            f" ({OPTIONS.get(path, '--set')}: {takers[path][0]}:{path}={common[path]})"
            for path in no
        )
        made.append(replace(_made(target, found, chosen), notes=notes))
    return _told_apart(made)


def _refused(
    target: Target[Config], found: Preset[Config], settings: Mapping[str, Setting]
) -> dict[str, UserError]:
    """The settings that this device does not have, or whose value it refuses, each with the reason."""
    if not settings:
        return {}
    try:
        target.peaks(with_overrides(found.config, settings))  # refuses a format that it has no unit for
    except UserError:
        pass
    else:
        return {}
    out = {}
    for path, value in settings.items():
        try:
            target.peaks(with_overrides(found.config, {path: value}))
        except UserError as refusal:
            out[path] = refusal
    return out


def _nobody(path: str, refusals: Sequence[UserError], first: str) -> UserError:
    """What to say of a setting that no target takes: a bad value where one has it, else the nearest name."""
    if path in OPTIONS and all(refusal.what.startswith("unknown parameter") for refusal in refusals):
        what = f"none of the targets has '{path}'"
        return UserError(
            what, where=OPTIONS[path], hint=f"drop it; `tetrasim show {first}` prints what can be set"
        )
    told = next((no for no in refusals if not no.what.startswith("unknown parameter")), refusals[0])
    return UserError(told.what, where=OPTIONS.get(path, told.where), hint=told.hint)


def _told_apart(setups: Sequence[Setup]) -> tuple[Setup, ...]:
    """Two files of one name in different folders are called by their paths."""
    times = Counter(setup.preset for setup in setups)
    return tuple(replace(s, preset=s.named) if times[s.preset] > 1 else s for s in setups)
