"""The presets: `presets/<name>.yaml`, found by location; a user's own YAML file has the same keys."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

from tetrasim.errors import UserError, nearest
from tetrasim.files.yaml import read_yaml
from tetrasim.models.config import ModelConfig, parse_config

_PRESETS = Path(__file__).parent / "presets"


@cache
def preset_names() -> tuple[str, ...]:
    """Every preset, sorted."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.yaml")))


@lru_cache(maxsize=64)
def preset(name: str) -> ModelConfig:
    """The preset called `name`.

    Raises:
        UserError: for an unknown name, with the nearest one.
    """
    if name not in preset_names():
        raise UserError(
            f"unknown model '{name}'",
            hint=f"{nearest(name, preset_names())} (`tetrasim list models` shows all; an .onnx or .yaml path "
            "works too)",
        )
    return _read(_PRESETS / f"{name}.yaml", name)


def resolve(model: str | Path | ModelConfig) -> ModelConfig:
    """A config from itself, a preset name or the path of a YAML file.

    Raises:
        UserError: for an unknown name, a missing or malformed file.
    """
    if isinstance(model, ModelConfig):
        return model
    path = Path(model)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"no model file '{path}'", hint="give the path of a YAML file or a preset name")
        return _read(path, path.stem)
    return preset(str(model))


def _read(path: Path, name: str) -> ModelConfig:
    tree = {"name": name, **read_yaml(path).tree}
    return parse_config(tree, where=path.name if path.parent == _PRESETS else str(path))
