"""Bits per tensor class (`bits: {weights: [4, 8, 16], activations: 16}`) as settings of each target.

A target says by `precision(config)` in which format it keeps weights, activations and state and what it
accumulates in. Here every number format that its configuration offers is asked for that answer, and the first
one with the wanted bits is taken: the preset's own format before the others, those in the order of the
configuration. A target without such a format refuses and names what it has; nothing is rounded to "close".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from pydantic import TypeAdapter

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.common.target import Config
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.precision import Precision

ROLES = ("weights", "activations", "state", "accumulate")
FORMAT_PATHS = ("precision", "numbers.format")  # where a configuration names its number format
WIDTH_PATHS = ("numbers.bits", "numbers.accumulator_bits")
FREE_FORMAT = "fixed"  # the one kind of format whose widths are parameters
Settings = tuple[tuple[str, str | int], ...]
Wanted = tuple[tuple[str, int], ...]


@lru_cache(maxsize=1024)
def settings_for(preset: str, wanted: Wanted) -> Settings:
    """The overrides that give `preset` the `wanted` bits, as (role, bits) pairs.

    Raises:
        UserError: it has no such format; the hint lists the formats that it has.
    """
    for settings, precision in _offers(preset, dict(wanted)):
        if all(getattr(precision, role).bits == bits for role, bits in wanted):
            return settings
    asked = ", ".join(f"{bits}-bit {role}" for role, bits in wanted)
    raise UserError(f"'{preset}' has no number format with {asked}", where="bits", hint=_listing(preset))


def _offers(preset: str, wanted: Mapping[str, int]) -> Iterator[tuple[Settings, Precision]]:
    """Every format of the preset's configuration, its own first; fixed point in the widths asked for."""
    target, found = find_preset(preset)
    for path in FORMAT_PATHS:
        names, own = _choices(found.config, path)
        for name in sorted(names, key=lambda n: n != own):
            settings: Settings = ((path, name),)
            if name == FREE_FORMAT:
                narrow = {wanted[r] for r in ROLES[:3] if r in wanted}
                widths = (min(narrow, default=0), wanted.get("accumulate", 0))
                settings += tuple((p, w) for p, w in zip(WIDTH_PATHS, widths, strict=True) if w)
            try:
                config = with_overrides(found.config, dict(settings))
                target.peaks(config)  # refuses a format that the device has no unit for
            except UserError:
                continue
            yield settings, target.precision(config)


def _choices(config: Config, path: str) -> tuple[list[str], str]:
    """The values that the field at `path` may take, and the one it has; none where there is no such field."""
    at: object = config
    *groups, leaf = path.split(".")
    for group in groups:
        at = getattr(at, group, None)
    fields = getattr(type(at), "model_fields", {})
    if leaf not in fields:
        return [], ""
    schema = TypeAdapter(fields[leaf].annotation).json_schema()
    return [str(v) for v in schema.get("enum", ())], str(getattr(at, leaf))


def _listing(preset: str) -> str:
    """`float16 (16, 16, 16, 32)` for every format of the preset."""
    rows = []
    for settings, precision in _offers(preset, {}):
        widths = [getattr(precision, role).bits for role in ROLES]
        free = settings[0][1] == FREE_FORMAT
        rows.append(f"{settings[0][1]} ({'any width' if free else ', '.join(map(str, widths))})")
    return f"({', '.join(ROLES)}): {'; '.join(rows)}" if rows else "its number format is not a parameter"


def clashing_path(paths: Mapping[str, object]) -> str:
    """The first of a target's own parameters that `bits` would set as well; empty: none."""
    return next((p for p in (*FORMAT_PATHS, *WIDTH_PATHS) if p in paths), "")
