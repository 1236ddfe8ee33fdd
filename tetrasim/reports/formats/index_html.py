"""`index.html`: one page, no network, under a megabyte.

Jinja2 with autoescape renders `templates/report.html`; charts are inline SVG (`charts.py`); the per-layer
table travels as one JSON island with interned names, and the script sets text only as text. Big models
keep the rows with the largest share of the time (the rest stays in `ops.csv`) so that the page stays small.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from tetrasim.reports import charts, html_parts, view
from tetrasim.reports.document import Document
from tetrasim.sim.metric import Metric
from tetrasim.sim.result import OpResult, Result

if TYPE_CHECKING:
    from jinja2 import Template

FILE = "index.html"
_HERE = Path(__file__).parents[1] / "templates"
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


def render(found: Document) -> str:
    """The page of one or several results."""
    results = found.results
    labels = view.labels(results)
    named = list(zip(labels, results, strict=True))
    panels = [html_parts.panel(result, label) for label, result in named]
    rows = _rows(named)
    return _template().render(
        title=" and ".join(dict.fromkeys(r.model for r in results)),
        workload=view.workload_text(results[0]),
        parameters=view.parameters_text(results[0]),
        sections=SECTIONS,
        panels=panels,
        command=found.command,
        refusals=found.refusals,
        latency_bars=charts.bars(_latency_bars(named), "Latency of every target"),
        energy_bars=charts.bars(_energy_bars(named), "Energy of every target"),
        token_bars=charts.bars(_token_bars(named), "Time per token of every target")
        if any(r.generation and r.generation.mean_token for r in results)
        else None,
        error_range=view.error_range,
        ranked=view.ranked,
        dropped=sum(len(r.ops) for r in results) - len(rows),
        labels=labels,
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


_Named = tuple[str, Result]


def _latency_bars(named: Sequence[_Named]) -> list[charts.Bar]:
    return _bars([(label, r.latency, view.time_text(r.latency)) for label, r in named])


def _energy_bars(named: Sequence[_Named]) -> list[charts.Bar]:
    return _bars([(label, r.energy, view.energy_text(r.energy)) for label, r in named])


def _token_bars(named: Sequence[_Named]) -> list[charts.Bar]:
    metrics = [(label, r.generation.mean_token) for label, r in named if r.generation]
    return _bars([(label, m, view.time_text(m)) for label, m in metrics if m is not None])


def _bars(rows: Sequence[tuple[str, Metric, str]]) -> list[charts.Bar]:
    """The smallest is the best: the others say how many times more they are."""
    best = min(metric.value for _, metric, _ in rows)
    return [
        charts.Bar(label, m.value, f"{text}{_ratio(m.value, best)}", m.low, m.high) for label, m, text in rows
    ]


def _ratio(value: float, best: float) -> str:
    return f"  ({value / best:.3g}×)" if best and value > best else ""


def _rows(named: Sequence[_Named]) -> list[tuple[str, OpResult]]:
    """Graph order; of more than MAX_ROWS the ones that take the most time are kept."""
    rows = [(label, op) for label, r in named for op in r.ops]
    if len(rows) <= MAX_ROWS:
        return rows
    keep = set(sorted(range(len(rows)), key=lambda i: (-rows[i][1].time_fraction, i))[:MAX_ROWS])
    return [row for i, row in enumerate(rows) if i in keep]


def _island(rows: Sequence[tuple[str, OpResult]]) -> Markup:
    """Rows as arrays with interned names. `<` is escaped, so no name can close the script element."""
    strings: dict[str, int] = {}
    out = []
    for label, op in rows:
        names = (label, op.phase, op.op, op.module or op.node, op.shape, op.bound_by, " ".join(op.onnx))
        cells: list[int | float] = [strings.setdefault(name, len(strings)) for name in names]
        cells += [_short(op.time_ns), _short(op.time_fraction), _short(op.energy_pj), op.macs, op.bytes]
        out.append([*cells, _short(op.arithmetic_intensity)])
    text = json.dumps({"strings": list(strings), "rows": out}, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _short(value: float) -> float:
    """Five significant digits: what the table can show, at half the size."""
    return float(f"{value:.5g}")
