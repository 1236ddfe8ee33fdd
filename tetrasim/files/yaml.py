"""The one YAML reader: safe tags only, bounded size and depth, text keys given once, no aliases.

Device presets, models, studies, locks and DRAM devices come through here. A mistake names file and line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tetrasim.errors import UserError
from tetrasim.files.read import MAX_DEPTH, MAX_TEXT_BYTES, read_text

Scalar = str | int | float | bool | None
Plain = Scalar | list["Plain"] | dict[str, "Plain"]
# The safe loader in C where libyaml is there: ten times faster, the same documents.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class YamlFile:
    """A read file: its mapping, and the 1-based line of every dotted path in it (`a.b`, `a.0.b` in lists)."""

    tree: dict[str, Plain]
    lines: dict[str, int]


def read_yaml(file: Path, most: int = MAX_TEXT_BYTES) -> YamlFile:
    """The mapping that a YAML file holds, with its lines.

    Raises:
        UserError: unreadable, oversized or malformed; a key given twice or that is no text; aliases (they
            grow exponentially), tags beyond plain data, numbers that are not finite, or a depth above 64.
    """
    return yaml_of(read_text(file, most), str(file))


def yaml_of(text: str, where: str) -> YamlFile:
    """The mapping of a YAML text, see `read_yaml`."""
    try:
        _scan(text, where)
        loader = _LOADER(text)
        node = loader.get_single_node()
        if node is None or not isinstance(node, yaml.MappingNode):
            raise UserError("expected `key: value` lines", where=where, hint="see the files that ship")
        lines = dict(_check(node, "", where))
        tree = _built(loader, node, where)
    except yaml.YAMLError as failure:
        mark = getattr(failure, "problem_mark", None)
        said = str(getattr(failure, "problem", None) or failure).splitlines()[0]
        raise UserError(
            f"not valid YAML: {said}",
            where=f"{where}:{mark.line + 1}" if mark else where,
            hint="check brackets, quotes and indentation",
        ) from None
    return YamlFile(tree, lines)


def _built(loader: yaml.SafeLoader, node: yaml.MappingNode, where: str) -> dict[str, Plain]:
    """The tree of a checked node."""
    try:
        tree: dict[str, Plain] = loader.construct_document(node)
    except (ValueError, KeyError):  # `!!int x`: a tag that its text does not fit
        raise UserError("a value does not fit its tag", where=where, hint="leave the `!!tag` out") from None
    return tree


def _scan(text: str, where: str) -> None:
    """Refuse aliases and depth before anything is built: both cost more than the file's size."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(
                "YAML aliases are not accepted", where=_line(where, event), hint="write the values out"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(
                "the file is nested too deeply", where=_line(where, event), hint="a few levels do"
            )


def _line(where: str, at: yaml.Event | yaml.Node) -> str:
    return f"{where}:{at.start_mark.line + 1}" if at.start_mark else where


def _check(node: yaml.Node, path: str, where: str) -> Iterator[tuple[str, int]]:
    """The line of every path; every key is text and given once, every scalar is plain data."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag in ("tag:yaml.org,2002:merge", _NULL):
                raise UserError("a key is no text", where=_line(where, key), hint="write `name: value`")
            here = f"{path}.{key.value}" if path else key.value
            if key.value in seen:
                raise UserError(f"'{here}' is given twice", where=_line(where, key), hint="keep one of them")
            seen.add(key.value)
            # As it is written: `on`, `1` or `2024-01-01` is a name here, whatever YAML would make of it.
            key.tag = _TEXT
            yield here, key.start_mark.line + 1
            yield from _check(value, here, where)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            here = f"{path}.{i}" if path else str(i)
            yield here, item.start_mark.line + 1
            yield from _check(item, here, where)
    elif isinstance(node, yaml.ScalarNode):
        _check_scalar(node, path, where)
    if node.tag not in _PLAIN:
        what = node.tag.removeprefix("tag:yaml.org,2002:")
        raise UserError(
            f"'{path}' is a {what}, which is no plain value",
            where=_line(where, node),
            hint="put it in quotes",
        )


def _check_scalar(node: yaml.ScalarNode, path: str, where: str) -> None:
    """A date is the text that was written; numbers are finite and not thousands of digits long."""
    if node.tag == _TIME:
        try:
            yaml.SafeLoader("").construct_object(node)
        except (ValueError, AttributeError) as failure:  # a `!!timestamp` that matches no form has no groups
            raise UserError(
                f"'{path}' looks like a date, but {failure}",
                where=_line(where, node),
                hint="put it in quotes",
            ) from None
        node.tag = _TEXT
    elif node.tag == _INT and len(node.value) > MAX_DIGITS:
        raise UserError(f"'{path}' has {len(node.value)} digits", where=_line(where, node), hint="a number?")
    elif node.tag == _FLOAT and not _finite(node.value):
        raise UserError(
            f"'{path}' is {node.value}, which is not a finite number",
            where=_line(where, node),
            hint="give a number",
        )


def _finite(text: str) -> bool:
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        return False
    try:
        return math.isfinite(float(text.replace("_", "")))
    except ValueError:  # `1:30`, or a `!!float` that is none
        return True


MAX_DIGITS = 100
_TEXT, _NULL, _INT, _FLOAT, _TIME = (
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "int", "float", "timestamp")
)
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")}
