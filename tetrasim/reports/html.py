"""`index.html`: one page, no network, under a megabyte.

Jinja2 with autoescape renders `templates/report.html`; charts are inline SVG (`charts.py`); the per-layer
table travels as one JSON island with interned names, and the script sets text only as text. Big models
keep the rows with the largest share of the time (the rest stays in `ops.csv`) so that the page stays small.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from tetrasim.reports import charts, html_parts, view
from tetrasim.reports.document import Document
from tetrasim.sim.result import OpResult, Result

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent / "templates"
MAX_ROWS = 6000
SECTIONS = (
    ("headline", "Headline"),
    ("comparison", "Comparison"),
    ("speed-of-light", "Speed of light"),
    ("roofline", "Roofline"),
    ("time", "Time"),
    ("layers", "Layers"),
    ("memory", "Memory"),
    ("energy", "Energy"),
    ("findings", "Findings"),
    ("accuracy", "Accuracy"),
    ("coverage", "Coverage"),
    ("provenance", "Provenance"),
)


def to_html(found: Document) -> str:
    """The page of one or several results."""
    results = found.results
    panels = [html_parts.panel(r) for r in results]
    rows = _rows(results)
    return _template().render(
        title=results[0].model,
        workload=view.workload_text(results[0]),
        parameters=view.parameters_text(results[0]),
        sections=SECTIONS,
        panels=panels,
        command=found.command,
        latency_bars=charts.bars(_latency_bars(results), "Latency of every target"),
        energy_bars=charts.bars(_energy_bars(results), "Energy of every target"),
        token_bars=charts.bars(_token_bars(results), "Time per token of every target")
        if any(r.generation and r.generation.mean_token for r in results)
        else None,
        error_range=view.error_range,
        ranked=view.ranked,
        dropped=sum(len(r.ops) for r in results) - len(rows),
        presets=[r.preset for r in results],
        phases=list(dict.fromkeys(op.phase for r in results for op in r.ops)),
        ops_json=_island(rows),
        style=_asset("style.css"),
        script=_asset("app.js"),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


@cache
def _asset(name: str) -> Markup:
    """A file of this package, inlined as it is."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _latency_bars(results: tuple[Result, ...]) -> list[charts.Bar]:
    best = min(r.latency.value for r in results)
    return [
        charts.Bar(
            r.preset,
            r.latency.value,
            f"{view.time_text(r.latency)}{_ratio(r.latency.value, best)}",
            r.latency.low,
            r.latency.high,
        )
        for r in results
    ]


def _energy_bars(results: tuple[Result, ...]) -> list[charts.Bar]:
    best = min(r.energy.value for r in results)
    return [
        charts.Bar(
            r.preset,
            r.energy.value,
            f"{view.energy_text(r.energy)}{_ratio(r.energy.value, best)}",
            r.energy.low,
            r.energy.high,
        )
        for r in results
    ]


def _token_bars(results: tuple[Result, ...]) -> list[charts.Bar]:
    metrics = [
        (r.preset, r.generation.mean_token) for r in results if r.generation and r.generation.mean_token
    ]
    best = min(m.value for _, m in metrics)
    return [
        charts.Bar(name, m.value, f"{view.time_text(m)}{_ratio(m.value, best)}", m.low, m.high)
        for name, m in metrics
    ]


def _ratio(value: float, best: float) -> str:
    return f"  ({value / best:.3g}×)" if best and value > best else ""


def _rows(results: tuple[Result, ...]) -> list[tuple[Result, OpResult]]:
    """Graph order; of more than MAX_ROWS the ones that take the most time are kept."""
    rows = [(r, op) for r in results for op in r.ops]
    if len(rows) <= MAX_ROWS:
        return rows
    keep = set(sorted(range(len(rows)), key=lambda i: (-rows[i][1].time_fraction, i))[:MAX_ROWS])
    return [row for i, row in enumerate(rows) if i in keep]


def _island(rows: list[tuple[Result, OpResult]]) -> Markup:
    """Rows as arrays with interned names. `<` is escaped, so no name can close the script element."""
    strings: dict[str, int] = {}
    out = []
    for result, op in rows:
        names = (
            result.preset,
            op.phase,
            op.op,
            op.module or op.node,
            op.shape,
            op.bound_by,
            " ".join(op.onnx),
        )
        cells: list[int | float] = [strings.setdefault(name, len(strings)) for name in names]
        cells += [_short(op.time_ns), _short(op.time_fraction), _short(op.energy_pj), op.macs, op.bytes]
        out.append([*cells, _short(op.arithmetic_intensity)])
    text = json.dumps({"strings": list(strings), "rows": out}, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _short(value: float) -> float:
    """Five significant digits: what the table can show, at half the size."""
    return float(f"{value:.5g}")
