"""What if one parameter were different: a finished run again, with one change, and what it moves.

A change is `path=value`, `path=1.25x` (times the present value), or with a target in front
(`gpu/t4:dram.bandwidth=1.25x`). A path may be shortened as long as it names one parameter:
`dram.bandwidth` for `dram.bandwidth_bytes_per_s`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tetrasim.dse.checks import leaf_paths
from tetrasim.dse.space import Scalar
from tetrasim.errors import UserError, nearest
from tetrasim.flow.setup import Setup, meant, set_up

if TYPE_CHECKING:
    from tetrasim.reports.lock import Lock

_TIMES = re.compile(r"([0-9.]+(?:e[-+]?[0-9]+)?)x$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Applied:
    """A change as it came out for one target."""

    preset: str
    path: str
    before: Scalar
    after: Scalar


def apply_changes(
    preset: str, overrides: dict[str, Scalar], changes: Sequence[str]
) -> tuple[dict[str, Scalar], list[Applied]]:
    """The overrides of `preset` with the changes that concern it, and what they did.

    Raises:
        UserError: a change that is not PATH=VALUE, an ambiguous or unknown path, a value it refuses.
    """
    setup = set_up(preset, overrides)
    out, applied = dict(overrides), []
    for text in changes:
        path, equals, value = text.partition("=")
        if not equals or not path or not value:
            raise UserError(f"'{text}' is not PATH=VALUE", hint="for example dram.bandwidth=1.25x")
        target, colon, rest = path.rpartition(":")
        if colon and target != preset:
            continue
        full = find_path(setup, rest)
        before = present_value(setup, full)
        out[full] = new_value(before, value, text)
        applied.append(Applied(preset, full, before, out[full]))
    set_up(preset, out)
    return out, applied


def find_path(setup: Setup, path: str) -> str:
    """The one configuration path that `path` names or begins.

    Raises:
        UserError: none or several.
    """
    known = leaf_paths(setup.config.model_dump())
    if path in known:
        return path
    begins = [k for k in known if k.startswith(path)] or [
        k for k in known if k.rpartition(".")[2].startswith(path)
    ]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise UserError(
            f"'{path}' could be {', '.join(begins[:6])}", where=setup.preset, hint="write one of them"
        )
    raise UserError(f"unknown parameter '{path}'", where=setup.preset, hint=nearest(path, known))


def present_value(setup: Setup, path: str) -> Scalar:
    """The configuration's value at a dotted path."""
    at: object = setup.config
    for part in path.split("."):
        at = getattr(at, part)
    if not isinstance(at, (str, int, float, bool)):
        raise UserError(f"'{path}' is not a single value", where=setup.preset)
    return at


def new_value(before: Scalar, text: str, change: str) -> Scalar:
    """`before` scaled (`1.25x`) or replaced, as a number where it was one."""
    times = _TIMES.match(text)
    if times:
        if isinstance(before, (str, bool)):
            raise UserError(
                f"'{change}' scales {before!r}, which is not a number", hint="write the value itself"
            )
        scaled = before * float(times.group(1))
        _check_finite(scaled, change)
        return round(scaled) if isinstance(before, int) else scaled
    if isinstance(before, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"'{change}': write true or false")
        return text.lower() == "true"
    if isinstance(before, str):
        return text
    try:
        number = float(text)
    except ValueError:
        raise UserError(
            f"'{change}': '{text}' is not a number", hint="for example 1.25x, or 3.2e11"
        ) from None
    _check_finite(number, change)
    return int(number) if isinstance(before, int) and number == int(number) else number


def _check_finite(number: float, change: str) -> None:
    if not math.isfinite(number):
        raise UserError(f"'{change}': {number} is no value of a device", hint="write a finite number")


def change_settings(lock: Lock, changes: Sequence[str]) -> tuple[dict[str, Scalar], list[Applied]]:
    """Settings of all targets after the changes; a change without a target applies wherever it is known.

    Raises:
        UserError: a change that no target of the run knows.
    """
    settings: dict[str, Scalar] = {}
    applied: list[Applied] = []
    names = [target.preset for target in lock.targets]
    for written in changes:
        change = _addressed(written, names)
        refusals, hits = [], len(applied)
        for target in lock.targets:
            present = {
                k.partition(":")[2]: v for k, v in settings.items() if k.startswith(f"{target.preset}:")
            }
            try:
                new, did = apply_changes(target.preset, dict(target.overrides) | present, [change])
            except UserError as refusal:
                refusals.append(refusal)
                continue
            settings |= {f"{target.preset}:{path}": value for path, value in new.items()}
            applied += did
        if refusals and len(applied) == hits:
            raise refusals[0]
    if not applied:
        raise UserError(
            "no target of this run is changed",
            hint=f"its targets: {', '.join(names)}",
        )
    return settings, applied


def _addressed(change: str, names: Sequence[str]) -> str:
    """The change with its target as the run names it: reports call a device file by its name alone."""
    path, equals, value = change.partition("=")
    prefix, colon, rest = path.rpartition(":")
    return f"{meant(prefix, names) or prefix}{colon}{rest}{equals}{value}"
