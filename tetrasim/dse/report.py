"""`report.html` of a study: Pareto plots, parallel coordinates, parameter importance, a table with search.

One self-contained page that opens offline. Numbers reach it as JSON in a script element of a data type,
escaped so that no text of a study can end the element; the page's script builds every node with textContent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tetrasim.dse.importance import importance
from tetrasim.dse.metrics import METRICS
from tetrasim.dse.study import Done, State
from tetrasim.files.write import write_file

_HERE = Path(__file__).parent / "templates"
MAX_TRIALS = 5000


def write_report(state: State, folder: Path) -> Path:
    """Write `report.html` into the study's folder."""
    file = folder / "report.html"
    write_file(file, to_html(state))
    return file


def to_html(state: State) -> str:
    """The page. Above `MAX_TRIALS` trials, the table shows the front and the latest ones, and says so."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    import tetrasim.reports

    style = Path(tetrasim.reports.__file__).parent / "templates" / "style.css"
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    spec = state.spec
    front = {t.number for t in state.front}
    kept = [t for t in state.trials if t.number in front] + [t for t in state.trials if t.number not in front]
    shown = sorted(kept[:MAX_TRIALS], key=lambda t: t.number)
    return environment.get_template("study.html").render(
        spec=spec,
        style=style.read_text(encoding="utf-8"),
        script=(_HERE / "study.js").read_text(encoding="utf-8"),
        data=_embedded(_data(state, shown, front)),
        counts={
            "done": len(state.trials),
            "feasible": sum(t.feasible for t in state.trials),
            "failed": sum(not t.metrics for t in state.trials),
            "front": len(front),
            "hidden": len(state.trials) - len(shown),
        },
        objectives=[METRICS[m] for m in spec.objectives],
        importance=[(m, importance(state, m)) for m in spec.objectives],
        fixed=[(p.name, p.domain[0]) for p in spec.fixed if isinstance(p.domain, tuple)],
    )


def _data(state: State, shown: list[Done], front: set[int]) -> dict[str, Any]:
    spec = state.spec
    metrics = list(dict.fromkeys((*spec.objectives, *(c.metric for c in spec.limits))))
    extra = sorted({m for t in shown for m in t.metrics} - set(metrics))
    return {
        "study": spec.name,
        "objectives": list(spec.objectives),
        "maximise": {m: METRICS[m].maximise for m in spec.objectives},
        "metrics": metrics + extra,
        "parameters": [p.name for p in spec.parameters],
        "trials": [
            {
                "n": t.number,
                "p": t.point,
                "m": {k: float(f"{v:.6g}") for k, v in t.metrics.items()},
                "ok": t.feasible,
                "front": t.number in front,
                "note": t.note,
            }
            for t in shown
        ],
    }


def _embedded(tree: dict[str, Any]) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
