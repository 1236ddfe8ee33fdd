"""Show a preset with the source of every number, a model, or where a mapping puts a model.

tetrasim show gpu/t4
tetrasim show gpt2-small
tetrasim show mapping gpt2-small --on pim/pim-gpt
"""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import Annotated

import typer

from tetrasim.cli import _options, _tables
from tetrasim.errors import UserError, nearest

app = _options.new_app()


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A target preset, a model, or the word `mapping`.")],
    model: Annotated[
        str | None, typer.Argument(help="With `mapping`: the model.", show_default=False)
    ] = None,
    on: _options.On = None,
    prompt: Annotated[int | None, typer.Option(show_default=False)] = None,
    generate: Annotated[int, typer.Option(help="With `mapping`: tokens to generate.")] = 0,
    batch: Annotated[int, typer.Option(help="With `mapping`: sequences at once.")] = 1,
    json: _options.Json = False,
) -> None:
    """Show a preset with its sources and marks, a model, or a mapping."""
    if what == "mapping":
        _options.out(_mapping(model, on or [], prompt, generate, batch))
    elif what.partition("/")[0] in _kinds() or ("/" in what and not what.endswith((".yaml", ".yml"))):
        _options.out(_preset(what, json))
    else:
        _options.out(_model(what, json))


def _kinds() -> tuple[str, ...]:
    from tetrasim.hw_targets.registry import target_names

    return target_names()


def _preset(name: str, json: bool) -> str:
    from tetrasim.hw_targets.registry import find_preset

    _, preset = find_preset(name)
    if json:
        fields = {
            "preset": preset.name,
            "title": preset.title,
            "config": preset.config.model_dump(mode="json"),
            "sources": [asdict(source) for source in preset.sources],
        }
        return json_text.dumps(fields, indent=1, ensure_ascii=False)
    rows: list[_tables.Row] = [
        {"path": s.path, "value": str(s.value), "mark": s.mark, "source": s.source} for s in preset.sources
    ]
    sourced = {s.path for s in preset.sources}
    plain = [
        f"  {path}: {value}"
        for path, value in _leaves(preset.config.model_dump(mode="json"))
        if path not in sourced
    ]
    marked = f"{len(preset.marks)} of {len(preset.sources)} numbers are not from a primary source (see mark)"
    choices = ["", "choices and defaults without a source of their own:", *plain] if plain else []
    return "\n".join([f"{preset.name}: {preset.title}", marked, "", _tables.text(rows).rstrip(), *choices])


def _leaves(tree: dict[str, object], path: str = "") -> list[tuple[str, object]]:
    out: list[tuple[str, object]] = []
    for key, item in tree.items():
        here = f"{path}.{key}" if path else key
        out += _leaves(item, here) if isinstance(item, dict) else [(here, item)]
    return out


def _model(name: str, json: bool) -> str:
    from tetrasim.hw_targets.registry import preset_names as target_presets
    from tetrasim.models.parameters import count_parameters
    from tetrasim.models.zoo import preset_names, resolve

    if name not in preset_names() and not name.endswith((".yaml", ".yml")):
        known = (*preset_names(), *target_presets())
        raise UserError(f"'{name}' is neither a model nor a target preset", hint=nearest(name, known))
    config = resolve(name)
    fields = {"parameters": count_parameters(config).total, **config.model_dump(mode="json")}
    if json:
        return json_text.dumps(fields, indent=1, ensure_ascii=False)
    return "\n".join(f"{path}: {value}" for path, value in _leaves(fields) if value is not None)


def _mapping(model: str | None, on: list[str], prompt: int | None, generate: int, batch: int) -> str:
    from tetrasim import facade

    if model is None or len(on) != 1:
        raise UserError(
            "`show mapping` needs a model and one target",
            hint="for example: tetrasim show mapping gpt2-small --on pim/pim-gpt",
        )
    return facade.mapping_text(model, on[0], prompt=prompt, generate=generate, batch=batch)
