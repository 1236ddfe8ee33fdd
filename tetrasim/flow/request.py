"""What a run was asked to do: targets, settings per target, the workload, and the command that says so."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from tetrasim.errors import UserError
from tetrasim.flow.loading import ModelFiles, bind, check_workload, default_prompt
from tetrasim.sim.workload import Workload

Overrides = Mapping[str, str | int | float | bool]


def check_targets(names: Sequence[str]) -> None:
    if not names:
        from tetrasim.hw_targets.registry import preset_names

        raise UserError("no target is named", where="--on", hint=f"for example --on {preset_names()[0]}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"target '{name}' is named twice", where="--on", hint="name it once")


def workload_for(
    files: ModelFiles,
    prompt: int | None,
    generate: int,
    batch: int,
    dims: Mapping[str, int] | None,
    values: Mapping[str, str] | None = None,
    rows: Mapping[str, int] | None = None,
) -> Workload:
    for name, value, least in (("prompt", prompt, 1), ("generate", generate, 0), ("batch", batch, 1)):
        if value is not None and value < least:
            raise UserError(
                f"--{name} {value} is below {least}", where=f"--{name}", hint=f"give at least {least}"
            )
    tokens = default_prompt(files) if prompt is None else prompt
    return check_workload(files, bind(Workload(batch, tokens, generate), dims or {}, values, rows))


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
    for name, text in workload.values:
        words += ["--input", f"{name}={text}"]
    for name, count in workload.rows:
        words += ["--expect", f"{name}={count}"]
    for path, value in sorted(settings.items()):
        words += ["--set", f"{path}={value}"]
    words += ["--allow-unmodelled"] if files.allow_unmodelled else []
    return shlex.join(words)
