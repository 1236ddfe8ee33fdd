"""The comparison as a person reads it in a terminal: one table, why, what to try."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tetrasim.reports import view
from tetrasim.reports.document import Document
from tetrasim.sim.result import Result

if TYPE_CHECKING:
    from rich.table import Table

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
    console.print(_table(found.results, labels))
    for label, result in zip(labels, found.results, strict=True):
        console.print(f"[bold]why {_plain(label)}[/bold]: {_plain(why(result))}", soft_wrap=True)
    for label, result in zip(labels, found.results, strict=True):
        for line in advice(result):
            console.print(f"[green]try {_plain(label)}[/green]: {_plain(line)}", soft_wrap=True)
    for label, result in zip(labels, found.results, strict=True):
        for note in view.headline_notes(result):
            console.print(f"[yellow]note {_plain(label)}[/yellow]: {_plain(note)}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _table(results: tuple[Result, ...], labels: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    generates = any(r.generation is not None and r.generation.mean_token is not None for r in results)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("target", no_wrap=True)
    for name in ("latency", *(("first token", "per token", "tokens/s") if generates else ()), "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for name in ("of peak", "error range"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("basis", "precision", "nodes modelled"):
        table.add_column(name, no_wrap=True)
    for label, result in zip(labels, results, strict=True):
        table.add_row(_plain(label), *_row(result, generates))
    return table


def _row(result: Result, generates: bool) -> list[str]:
    cells = [view.time_text(result.latency)]
    generation = result.generation
    if generates:
        mean = generation.mean_token if generation else None
        cells += [
            view.time_text(generation.first_token) if generation else "",
            view.time_text(mean) if mean else "",
            f"{generation.tokens_per_s.value:.4g}" if generation else "",
        ]
    phase = view.longest_phase(result)
    cover = result.coverage
    return [
        *cells,
        view.energy_text(result.energy),
        _plain(view.bound_by(result)),
        f"{100 * phase.peak_fraction:.0f} % {_plain(phase.peak_name)}",
        view.error_range(result.latency),
        str(result.latency.basis),
        result.precision,
        f"{cover.nodes_modelled}/{cover.nodes}",
    ]


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
