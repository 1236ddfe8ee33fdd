"""`config.lock.yaml`: what a run was asked to do, exactly; `tetrasim run --lock FILE` does it again.

The lock names the model (a preset, or a file with its hash), the workload and, per target, the preset with
its overrides and the hash of the configuration they gave. A hash that no longer matches is reported. Paths of
files are written relative to the lock's own folder, so that it can be repeated from any working folder, and
after the folder that holds both has moved.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from tetrasim.errors import UserError, nearest
from tetrasim.files.yaml import read_yaml
from tetrasim.sim.result import SCHEMA_VERSION
from tetrasim.sim.workload import Workload

Scalar = str | int | float | bool
_HEAD = "# Repeat this run with: tetrasim run --lock {name}\n"
_KEYS = ("schema_version", "tetrasim", "model", "model_sha256", "workload", "allow_unmodelled", "targets")


@dataclass(frozen=True, slots=True)
class LockedTarget:
    """`overrides`: (dotted path, value) in the order given; a hand-written lock may have no hash."""

    preset: str
    overrides: tuple[tuple[str, Scalar], ...] = ()
    config_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything that decides a run's numbers. Paths in `model` and in the targets are as a command of the
    working folder would name them."""

    model: str
    model_sha256: str
    workload: Workload
    targets: tuple[LockedTarget, ...]
    version: str = ""
    allow_unmodelled: bool = False


def to_yaml(lock: Lock, folder: Path, name: str = "config.lock.yaml") -> str:
    """Stable text, keys in a fixed order, for a lock that lies in `folder`."""
    work = lock.workload
    tree = {
        "schema_version": SCHEMA_VERSION,
        "tetrasim": lock.version,
        "model": _moved(lock.model, Path(), folder),
        "model_sha256": lock.model_sha256,
        "workload": {
            "batch": work.batch,
            "prompt": work.prompt,
            "generate": work.generate,
            "dims": dict(work.dims),
            **({"values": dict(work.values)} if work.values else {}),
            **({"rows": dict(work.rows)} if work.rows else {}),
        },
        **({"allow_unmodelled": True} if lock.allow_unmodelled else {}),
        "targets": [
            {
                "preset": _of_preset(t.preset, Path(), folder),
                "set": dict(t.overrides),
                "config_sha256": t.config_sha256,
            }
            for t in lock.targets
        ],
    }
    return _HEAD.format(name=name) + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _moved(path: str, start: Path, end: Path) -> str:
    """A path that is relative to folder `start`, relative to `end`; the name of a preset stays as it is."""
    if not (path.endswith((".onnx", ".yaml", ".yml")) or "/" in path or (start / path).is_dir()):
        return path
    moved = os.path.relpath(Path(os.path.abspath(start)) / Path(path).expanduser(), os.path.abspath(end))
    return moved if "/" in moved or moved.endswith((".onnx", ".yaml", ".yml")) else f"./{moved}"


def _of_preset(preset: str, start: Path, end: Path) -> str:
    """`gpu/path/to/mine.yaml` with its path moved as by `_moved`; `gpu/t4` as it is."""
    kind, _, rest = preset.partition("/")
    return f"{kind}/{_moved(rest, start, end)}" if rest.endswith((".yaml", ".yml")) else preset


def read(file: Path) -> Lock:
    """Read a lock.

    Raises:
        UserError: unreadable file, unknown or missing key, wrong type; naming the file and the key.
    """
    tree = _mapping(read_yaml(file).tree, "the file", file)
    _known(tree, _KEYS, file)
    work = _mapping(tree.get("workload", {}), "workload", file)
    _known(work, ("batch", "prompt", "generate", "dims", "values", "rows"), file)
    dims = _mapping(work.get("dims", {}), "workload.dims", file)
    values = _mapping(work.get("values", {}), "workload.values", file)
    rows = _mapping(work.get("rows", {}), "workload.rows", file)
    targets = tree.get("targets")
    if not isinstance(targets, list) or not targets:
        raise UserError("'targets' must list at least one target", where=str(file), hint="- preset: gpu/t4")
    allowed = tree.get("allow_unmodelled", False)
    if not isinstance(allowed, bool):
        raise UserError(f"'allow_unmodelled' = {allowed!r} is neither true nor false", where=str(file))
    return Lock(
        model=_moved(_text(tree, "model", file), file.parent, Path()),
        model_sha256=str(tree.get("model_sha256", "")),
        workload=Workload(
            batch=_count(work.get("batch", 1), "workload.batch", 1, file),
            prompt=_count(work.get("prompt", 32), "workload.prompt", 1, file),
            generate=_count(work.get("generate", 0), "workload.generate", 0, file),
            dims=tuple((str(k), _count(v, f"workload.dims.{k}", 0, file)) for k, v in dims.items()),
            values=tuple((str(k), str(v)) for k, v in values.items()),
            rows=tuple((str(k), _count(v, f"workload.rows.{k}", 0, file)) for k, v in rows.items()),
        ),
        targets=tuple(_target(item, file) for item in targets),
        version=str(tree.get("tetrasim", "")),
        allow_unmodelled=allowed,
    )


def _target(item: object, file: Path) -> LockedTarget:
    entry = _mapping(item, "targets", file)
    _known(entry, ("preset", "set", "config_sha256"), file)
    settings = _mapping(entry.get("set", {}), "set", file)
    for key, value in settings.items():
        if not isinstance(value, (str, int, float, bool)):
            raise UserError(f"'set.{key}' is not a single value", where=str(file))
    overrides = tuple((str(k), v) for k, v in settings.items() if isinstance(v, (str, int, float, bool)))
    preset = _of_preset(_text(entry, "preset", file), file.parent, Path())
    return LockedTarget(preset, overrides, str(entry.get("config_sha256", "")))


def _mapping(value: object, what: str, file: Path) -> dict[str, object]:
    if not isinstance(value, dict):
        raise UserError(f"{what} must be `key: value` lines", where=str(file))
    return value


def _known(tree: dict[str, object], keys: tuple[str, ...], file: Path) -> None:
    for key in tree:
        if key not in keys:
            raise UserError(f"unknown key '{key}'", where=str(file), hint=nearest(str(key), keys))


def _text(tree: dict[str, object], key: str, file: Path) -> str:
    value = tree.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"'{key}' is missing", where=str(file), hint=f"add `{key}: …`")
    return value


def _count(value: object, key: str, least: int, file: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"'{key}' = {value!r} is not a whole number of at least {least}", where=str(file))
    return value
