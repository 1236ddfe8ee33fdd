"""List models, targets or ops.

tetrasim list models | targets | ops
"""

from __future__ import annotations

import json as json_text
from typing import Annotated

import typer

from tetrasim.cli import _arguments, _options, _tables
from tetrasim.cli._tables import Row

app = _options.new_app()
_KINDS = ("models", "targets", "ops")


@app.command()
def list_(
    what: Annotated[str, typer.Argument(help="models, targets or ops.")],
    json: _options.Json = False,
) -> None:
    """List what can be named: model presets, target presets, or the ops that every target can price."""
    kind = _arguments.choose(what if what.endswith("s") else what + "s", _KINDS, "list")
    rows = {"models": _models, "targets": _targets, "ops": _ops}[kind]()
    if json:
        _options.out(json_text.dumps(rows, indent=1, ensure_ascii=False))
        return
    _options.out(_tables.text(rows))


def _models() -> list[Row]:
    from tetrasim.models.parameters import count_parameters
    from tetrasim.models.zoo import preset, preset_names

    rows: list[Row] = []
    for name in preset_names():
        config = preset(name)
        row: Row = {"model": name, "parameters": count_parameters(config).total, "kind": config.architecture}
        rows.append({**row, "layers": config.layers, "width": config.width, "title": config.title})
    return rows


def _targets() -> list[Row]:
    from tetrasim.hw_targets.registry import find_preset, preset_names

    rows: list[Row] = []
    for name in preset_names():
        _, preset = find_preset(name)
        marks = len(preset.marks)
        rows.append({"target": name, "title": preset.title, "values": len(preset.sources), "marked": marks})
    return rows


def _ops() -> list[Row]:
    from tetrasim.flow.pricing import op_names
    from tetrasim.sim.ops.registry import supported_ops

    graph_ops: list[Row] = [{"op": name, "use": "ONNX graphs"} for name in supported_ops()]
    alone: list[Row] = [{"op": name, "use": "tetrasim op"} for name in op_names()]
    return [*graph_ops, *alone]
