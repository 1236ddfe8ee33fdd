"""What a run was asked to do: targets, settings per target, the workload, and the command that says so."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from tetrasim.errors import UserError, nearest
from tetrasim.flow.loading import ModelFiles, bind, check_workload, default_prompt
from tetrasim.sim.workload import Workload

Scalar = str | int | float | bool
Overrides = Mapping[str, Scalar]


def check_targets(names: Sequence[str]) -> None:
    if not names:
        from tetrasim.hw_targets.registry import preset_names

        raise UserError("no target is named", where="--on", hint=f"for example --on {preset_names()[0]}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"target '{name}' is named twice", where="--on", hint="name it once")


def overrides_for(preset: str, presets: Sequence[str], settings: Overrides) -> dict[str, Scalar]:
    """Settings for `preset`: unprefixed ones, then those written `preset:path`, which win."""
    chosen: dict[str, Scalar] = {}
    for path, value in settings.items():
        prefix, colon, rest = path.rpartition(":")
        if colon and prefix not in presets:
            raise UserError(
                f"--set names '{prefix}', which is not among --on",
                where="--set",
                hint=nearest(prefix, presets),
            )
        if not colon:
            chosen.setdefault(path, value)
        elif prefix == preset:
            chosen[rest] = value
    return chosen


def shortcut_settings(presets: Sequence[str], shortcuts: Overrides) -> dict[str, Scalar]:
    """Settings for those of `presets` whose configuration has the field: `{"launch": "eager"}` reaches GPUs.

    Raises:
        UserError: unknown preset, or a field that none of them has.
    """
    from tetrasim.hw_targets.registry import find_preset

    out: dict[str, Scalar] = {}
    for field, value in shortcuts.items():
        having = [p for p in presets if field in type(find_preset(p)[1].config).model_fields]
        if not having:
            raise UserError(
                f"none of the targets has '{field}'",
                where=f"--{field}",
                hint=f"drop it; `tetrasim show {presets[0]}` prints what can be set"
                if presets
                else "name a target",
            )
        out |= {f"{preset}:{field}": value for preset in having}
    return out


def workload_for(
    files: ModelFiles, prompt: int | None, generate: int, batch: int, dims: Mapping[str, int] | None
) -> Workload:
    for name, value, least in (("prompt", prompt, 1), ("generate", generate, 0), ("batch", batch, 1)):
        if value is not None and value < least:
            raise UserError(
                f"--{name} {value} is below {least}", where=f"--{name}", hint=f"give at least {least}"
            )
    tokens = default_prompt(files) if prompt is None else prompt
    return check_workload(files, bind(Workload(batch, tokens, generate), dims or {}))


def command_line(
    model: str, on: Sequence[str], workload: Workload, settings: Overrides, files: ModelFiles
) -> str:
    """The `tetrasim run` command of a run, quoted for a shell."""
    words = ["tetrasim", "run", model, "--on", *on]
    if files.kind != "file":
        words += ["--prompt", str(workload.prompt)]
    words += ["--generate", str(workload.generate)] if workload.generate else []
    words += ["--batch", str(workload.batch)] if workload.batch != 1 else []
    for name, size in workload.dims:
        words += ["--dim", f"{name}={size}"]
    for path, value in sorted(settings.items()):
        words += ["--set", f"{path}={value}"]
    words += ["--allow-unmodelled"] if files.allow_unmodelled else []
    return shlex.join(words)
