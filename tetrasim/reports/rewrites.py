"""What each pass makes of a graph: the lines that go and come, what matched, and what stopped a match.

As text for a terminal and as one HTML page that opens offline. Names come from a file that is not trusted:
they are escaped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from html import escape

from tetrasim.sim.passes.pipeline import Step, summary

_STYLE = (
    "body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:110em;padding:0 1em}"
    "pre{overflow-x:auto;background:#8881;padding:.7em}.gone{color:#b3261e}.come{color:#1b7f3b}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
)
MOST_LINES = 40  # of one pass at a terminal


def rewrites_text(steps: Iterable[Step]) -> str:
    """Per pass: what it ensures, the nodes before and after, and the lines that changed (at most 40)."""
    out: list[str] = []
    for step in steps:
        out.append(_title(step))
        changed = _changes(step)
        out += [f"  {line}" for line in changed[:MOST_LINES]]
        if len(changed) > MOST_LINES:
            out.append(f"  … {len(changed) - MOST_LINES} lines more (--html shows all)")
        out += [f"  {note}" for note in summary(step.outcome.notes)]
    return "\n".join(out)


def rewrites_html(name: str, steps: Iterable[Step]) -> str:
    """The same as a page, with every changed line and the whole graph before and after each pass."""
    parts = []
    for step in steps:
        lines = "\n".join(
            f'<span class="{"gone" if line[0] == "-" else "come"}">{escape(line)}</span>'
            for line in _changes(step)
        )
        notes = "".join(f"<li>{escape(str(note))}</li>" for note in summary(step.outcome.notes))
        graphs = "".join(
            f"<details><summary>{when}</summary><pre>{escape(graph.to_text())}</pre></details>"
            for when, graph in (("before", step.before), ("after", step.outcome.graph))
            if step.outcome.changed
        )
        body = f"<pre>{lines}</pre>" if lines else ""
        parts.append(f"<h2>{escape(_title(step))}</h2>{body}<ul>{notes}</ul>{graphs}")
    title = f"Rewrites of {escape(name)}"
    head = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    )
    return f"{head}<h1>{title}</h1>{''.join(parts)}</html>\n"


def _title(step: Step) -> str:
    nodes = (len(step.before.nodes), len(step.outcome.graph.nodes))
    count = f"{nodes[0]} -> {nodes[1]} nodes" if step.outcome.changed else "nothing to do"
    return f"{step.name} ({step.ensures}): {count}"


def _changes(step: Step) -> list[str]:
    """Lines that go (-) and come (+)."""
    if not step.outcome.changed:
        return []
    before, after = (g.to_text().splitlines() for g in (step.before, step.outcome.graph))
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    return [line for line in lines if not line.startswith("@@")]
