"""The comparison as a person reads it in a terminal: one table, why, what to try."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tetrasim.files.terminal import printable
from tetrasim.reports import view
from tetrasim.reports.document import Document
from tetrasim.sim.result import Result

if TYPE_CHECKING:
    from rich.table import Table

_NUMBERS = ("latency", "first token", "per token", "tokens/s", "energy", "of peak", "error range")
_DISPENSABLE = ("nodes modelled", "precision", "first token", "basis", "tokens/s", "of peak")
_SMALL_SHARE = 0.005  # parts below half a percent are summed up as "other" in the one-line explanation


def to_text(found: Document, width: int = 160, color: bool = False) -> str:
    """The whole summary as text."""
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=color, no_color=not color, highlight=False)
    first = found.results[0]
    labels = view.labels(found.results)
    if len({r.model for r in found.results}) == 1:
        head = f"[bold]{_plain(first.model)}[/bold]  {view.parameters_text(first)} parameters"
        console.print(f"{head}  {view.workload_text(first)}")
    console.print(_table(found.results, labels, width, tuple(no.preset for no in found.refusals)))
    for label, result in zip(labels, found.results, strict=True):
        console.print(f"[bold]why {_plain(label)}[/bold]: {_plain(why(result))}", soft_wrap=True)
    for label, result in zip(labels, found.results, strict=True):
        for line in advice(result):
            console.print(f"[green]try {_plain(label)}[/green]: {_plain(line)}", soft_wrap=True)
    for label, result in zip(labels, found.results, strict=True):
        for note in view.headline_notes(result):
            console.print(f"[yellow]note {_plain(label)}[/yellow]: {_plain(note)}", soft_wrap=True)
    for no in found.refusals:
        step = f"; {no.hint}" if no.hint else ""
        console.print(f"[red]refused {_plain(no.preset)}[/red]: {_plain(no.what + step)}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def _table(
    results: tuple[Result, ...], labels: tuple[str, ...], width: int, refused: tuple[str, ...] = ()
) -> Table:
    """One row per result and per refusing target; in a narrow terminal the columns that explain least are
    left out, not cut."""
    from rich import box
    from rich.table import Table

    rows = [{"target": label, **_cells(r)} for label, r in zip(labels, results, strict=True)]
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    rows += [{**dict.fromkeys(rows[0], ""), "target": name, "latency": "refused"} for name in refused]
    for name in _DISPENSABLE:
        if _table_width(columns, rows) > width and name in columns:
            columns.remove(name)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_plain(row[name]) for name in columns))
    return table


def _table_width(columns: list[str], rows: list[dict[str, str]]) -> int:
    return sum(max(len(name), *(len(row[name]) for row in rows)) + 3 for name in columns)


def _cells(result: Result) -> dict[str, str]:
    """Column -> text; empty where a column does not apply."""
    generation = result.generation
    mean = generation.mean_token if generation else None
    phase, cover = view.longest_phase(result), result.coverage
    return {
        "latency": view.time_text(result.latency),
        "first token": view.time_text(generation.first_token) if generation and mean else "",
        "per token": view.time_text(mean) if mean else "",
        "tokens/s": f"{generation.tokens_per_s.value:.4g}" if generation and mean else "",
        "energy": view.energy_text(result.energy),
        "bound by": view.bound_by(result),
        "of peak": f"{100 * phase.peak_fraction:.0f} % {phase.peak_name}",
        "error range": view.error_range(result.latency),
        "basis": str(result.latency.basis),
        "precision": result.precision,
        "nodes modelled": f"{cover.nodes_modelled}/{cover.nodes}",
    }


def why(result: Result) -> str:
    """`71.2 % DRAM weights, 20.1 % launch, … (= 100.0 % of 512 ms)`."""
    shares = view.time_shares(result)
    large = [s for s in shares if s.fraction >= _SMALL_SHARE]
    rest = sum(s.fraction for s in shares if s.fraction < _SMALL_SHARE)
    names = [s.name for s in large] + (["other"] if rest else [])
    shown = view.percents([s.fraction for s in large] + ([rest] if rest else []))
    pairs = [(percent, name) for percent, name in zip(shown, names, strict=True) if float(percent)]
    words = ", ".join(f"{percent} % {name}" for percent, name in pairs)
    return f"{words} (= 100.0 % of {view.time_text(result.latency)})"


def advice(result: Result, limit: int = 2) -> tuple[str, ...]:
    """The findings with the largest estimated gain, one line each: `−35 % time: store … (evidence)`."""
    chosen = [f for f in view.ranked(result.findings) if f.gain is None or f.gain > 0][:limit]
    gains = (f"−{100 * f.gain:.0f} % time: " if f.gain else "" for f in chosen)
    return tuple(f"{gain}{f.advice} ({f.evidence})" for gain, f in zip(gains, chosen, strict=True))
