"""Device presets: YAML in which every number names its source.

    title: NVIDIA T4
    sm_count: {value: 40, source: vendor data sheet}
    dram:
      bandwidth_bytes_per_s: {value: 320.0e9, source: vendor data sheet, mark: memory}
    dtype: float16

A leaf with `value` may add `source` and `mark` (memory, inferred, uncalibrated: carried to every report).
Strings and booleans may stand alone; a number may not. Loading is safe (no tags), sizes are bounded, and a
mistake names file, line and the nearest key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic

from pydantic import ValidationError

from tetrasim.errors import UserError, nearest
from tetrasim.files.yaml import Plain, Scalar, read_yaml
from tetrasim.hw_targets.common.target import Config, ConfigT

MARKS = ("memory", "inferred", "uncalibrated", "assumed")
_LEAF_KEYS = {"value", "source", "mark"}


@dataclass(frozen=True, slots=True)
class Sourced:
    """Where the number at a dotted path comes from; `line` is 1-based in the preset file."""

    path: str
    value: Plain
    source: str
    mark: str
    line: int


@dataclass(frozen=True)
class Preset(Generic[ConfigT]):
    """A loaded device: `name` is `gpu/t4`; `own`: a file that the user named, not one found by its name."""

    name: str
    title: str
    config: ConfigT
    sources: tuple[Sourced, ...]
    file: Path
    own: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks in use, for the headline ("3 values from memory")."""
        return tuple(s.mark for s in self.sources if s.mark)


def load_preset(file: Path, name: str, config_type: type[ConfigT]) -> Preset[ConfigT]:
    """Read and validate one preset file.

    Raises:
        UserError: unreadable YAML, an unknown or missing key, a number without a source, a bad value; with
            file and line.
    """
    found = read_yaml(file)
    tree, lines = found.tree, found.lines
    title = tree.pop("title", name)
    sources: list[Sourced] = []
    values = _split(tree, "", file, lines, sources)
    return Preset(name, str(title), validate(config_type, values, file, lines), tuple(sources), file)


def validate(
    config_type: type[ConfigT], values: Mapping[str, Plain], file: Path, lines: Mapping[str, int]
) -> ConfigT:
    """Build the config; the first pydantic complaint becomes one clear error."""
    try:
        return config_type.model_validate(values)
    except ValidationError as failure:
        # A misspelt key is also a missing one: the misspelling is the better message.
        first = min(failure.errors(), key=lambda e: e["type"] != "extra_forbidden")
        path = ".".join(str(p) for p in first["loc"])
        line = lines.get(path, lines.get(path.rpartition(".")[0], 1))
        where = f"{file}:{line}" if lines else str(file)  # a value of the command line has no line
        if first["type"] == "extra_forbidden":
            known = _fields_at(config_type, path.rpartition(".")[0])
            raise UserError(
                f"unknown key '{path}'", where=where, hint=nearest(path.rpartition(".")[2], known)
            ) from None
        if first["type"] == "missing":
            raise UserError(f"'{path}' is missing", where=where, hint="add it with its source") from None
        raise UserError(
            f"'{path}' = {first.get('input')!r}: {first['msg'].lower()}",
            where=where,
            hint="see `tetrasim show`",
        ) from None


def with_overrides(config: ConfigT, overrides: Mapping[str, Scalar]) -> ConfigT:
    """`config` with dotted paths replaced and validated again: `{"dram.channels": 4}`.

    Raises:
        UserError: an unknown path (with the nearest one) or a value the config refuses.
    """
    if not overrides:
        return config
    values = config.model_dump()
    known = _paths(config)
    for path, value in overrides.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"'{path}' = {value} is not a finite number", where="--set", hint="give a number")
        if path not in known:
            raise UserError(f"unknown parameter '{path}'", hint=nearest(path, known))
        *groups, leaf = path.split(".")
        at = values
        for group in groups:
            at = at[group]
        at[leaf] = value
    return validate(type(config), values, Path("--set"), {})


@lru_cache(maxsize=256)
def _paths(config: Config) -> frozenset[str]:
    """Every dotted path that has a value; asked for at every point of a search."""
    return frozenset(path for path, _ in _leaves(config.model_dump(), ""))


def _split(
    tree: Mapping[str, Plain], path: str, file: Path, lines: Mapping[str, int], sources: list[Sourced]
) -> dict[str, Plain]:
    """Values without their sources; the sources go to `sources`."""
    out: dict[str, Plain] = {}
    for key, item in tree.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(item, dict) and "value" in item:
            extra = set(item) - _LEAF_KEYS
            if extra:
                raise UserError(
                    f"unknown key '{min(extra)}' in '{here}'",
                    where=f"{file}:{lines[here]}",
                    hint=nearest(min(extra), _LEAF_KEYS),
                )
            mark = str(item.get("mark", ""))
            if mark and mark not in MARKS:
                raise UserError(
                    f"unknown mark '{mark}' in '{here}'",
                    where=f"{file}:{lines[here]}",
                    hint=nearest(mark, MARKS),
                )
            if not item.get("source"):
                raise UserError(
                    f"'{here}' names no source",
                    where=f"{file}:{lines[here]}",
                    hint="add `source:`, and `mark: memory` or `inferred` where it is",
                )
            out[key] = item["value"]
            sources.append(Sourced(here, item["value"], str(item["source"]), mark, lines[here]))
        elif isinstance(item, dict):
            out[key] = _split(item, here, file, lines, sources)
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            raise UserError(
                f"'{here}' is a number without a source",
                where=f"{file}:{lines[here]}",
                hint=f"write {key}: {{value: {item}, source: …}}",
            )
        else:
            out[key] = item
    return out


def _leaves(values: Mapping[str, Plain], path: str) -> Iterator[tuple[str, Plain]]:
    for key, item in values.items():
        here = f"{path}.{key}" if path else key
        if isinstance(item, dict):
            yield from _leaves(item, here)
        else:
            yield here, item


def _fields_at(config_type: type[ConfigT], path: str) -> list[str]:
    """Field names of the (possibly nested) model at a dotted path."""
    model: type | None = config_type
    for part in path.split(".") if path else []:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    return list(getattr(model, "model_fields", {}))


@lru_cache(maxsize=64)
def preset_files(folder: Path) -> tuple[Path, ...]:
    """The preset files of one target, by name."""
    return tuple(sorted((folder / "presets").glob("*.yaml")))
