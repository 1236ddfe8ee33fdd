"""From a study file, or plain data, to a checked `StudySpec`; a mistake names file, line and nearest key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tetrasim.dse.checks import check_spec
from tetrasim.dse.prices import Ownership, Price
from tetrasim.dse.space import MAX_CHOICES, BitsSpace, ModelSpace, Search, StudySpec, WorkloadSpace
from tetrasim.errors import UserError, nearest
from tetrasim.files.yaml import read_yaml


def load_spec(file: Path) -> StudySpec:
    """Read and check a study file.

    Raises:
        UserError: unreadable YAML, an unknown key, path, metric or preset; with file and nearest name.
    """
    found = read_yaml(file)
    tree, lines = dict(found.tree), found.lines
    tree.setdefault("name", re.sub(r"[^A-Za-z0-9._+-]+", "-", file.stem).strip("-._+ ")[:80] or "study")
    return make_spec(tree, str(file), lines)


def make_spec(tree: dict[str, Any], where: str = "study", lines: dict[str, int] | None = None) -> StudySpec:
    """Check plain data (from YAML or Python).

    Raises:
        UserError: as `load_spec`.
    """
    try:
        spec = StudySpec.model_validate(tree)
    except ValidationError as failure:
        raise _readable(failure, where, lines or {}) from None
    check_spec(spec, where)
    return spec


# What pydantic calls the alternatives of a domain: none of them is part of a path.
_BRANCHES = ("str", "int", "float", "bool", "tuple", "union", "function", "Range", "constrained", "[key]")


def _first_error(failure: ValidationError) -> ErrorDetails:
    """The complaint to show: of a mapping, that of a range; a missing key after a misspelt one."""

    def rank(error: ErrorDetails) -> tuple[bool, bool]:
        names = [str(part) for part in error["loc"]]
        about_range = any("Range" in name for name in names) and error["type"] not in (
            "missing",
            "model_type",
        )
        return error["type"] != "extra_forbidden", not about_range

    return min(failure.errors(include_url=False), key=rank)


def _readable(failure: ValidationError, where: str, lines: dict[str, int]) -> UserError:
    first = _first_error(failure)
    names = [str(part) for part in first["loc"]]
    branch = next((i for i, name in enumerate(names) if name.startswith(_BRANCHES)), len(names))
    path = ".".join(names[:branch])
    line = next((lines[p] for p in (path, path.rpartition(".")[0]) if p in lines), None)
    place = f"{where}:{line}" if line else where
    if first["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {
            "model": ModelSpace,
            "workload": WorkloadSpace,
            "bits": BitsSpace,
            "search": Search,
            "prices": Price,
            "ownership": Ownership,
        }
        section = sections.get(str(first["loc"][0]), StudySpec) if len(first["loc"]) > 1 else StudySpec
        hint = nearest(str(first["loc"][-1]), section.model_fields)
        return UserError(f"unknown key '{path}'", where=place, hint=hint)
    if first["type"] == "missing":
        return UserError(f"'{path}' is missing", where=place, hint="see docs/dse.md for a study file")
    message = first["msg"].removeprefix("Value error, ")
    if branch < len(names) and names[branch] == "[key]":
        message = "a name has to be text: put it in quotes"
    elif branch < len(names) and "Range" not in names[branch]:
        message = f"write a finite value, a list of 1 to {MAX_CHOICES} values, or {{low: …, high: …}}"
    if path == "name":
        message = "at most 80 letters, digits, spaces and . _ + -, the first a letter or a digit"
    return UserError(f"'{path}': {message}", where=place, hint="see docs/dse.md for a study file")
