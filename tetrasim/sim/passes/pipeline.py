"""The standard pipeline: every graph goes through it before it is priced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tetrasim.sim.ir.graph import Graph, GraphError
from tetrasim.sim.passes import (
    activations,
    attention,
    caches,
    gated,
    indexed,
    linear,
    norms,
    quantised,
    recurrence,
    rotary,
    views,
)
from tetrasim.sim.passes.contract import Note, Outcome, Pass

STANDARD: tuple[Pass, ...] = (
    views.PASS,
    recurrence.PASS,
    caches.PASS,
    quantised.PASS,
    norms.PASS,
    activations.PASS,
    gated.PASS,
    rotary.PASS,
    attention.PASS,
    linear.PASS,
    indexed.PASS,
)


@dataclass(frozen=True, eq=False)
class Step:
    """One pass over one graph: what it was given and what it made of it."""

    name: str
    ensures: str
    before: Graph
    outcome: Outcome


def steps(graph: Graph, passes: tuple[Pass, ...] = STANDARD) -> Iterator[Step]:
    """`passes` in order, each with its requirements met and the graph verified after it.

    Raises:
        GraphError: a pass is in the wrong place or leaves a malformed graph (our defect).
    """
    done: set[str] = set()
    for each in passes:
        missing = set(each.requires) - done
        if missing:
            raise GraphError(f"pass '{each.name}' requires {', '.join(sorted(missing))} before it")
        outcome = each.run(graph)
        if outcome.changed:
            outcome.graph.verify()
        yield Step(each.name, each.ensures, graph, outcome)
        graph = outcome.graph
        done.add(each.name)


def run_passes(graph: Graph, passes: tuple[Pass, ...] = STANDARD) -> Outcome:
    """The graph after all `passes`, and what each had to say.

    Raises:
        GraphError: as `steps`.
    """
    notes: list[Note] = []
    changed = False
    for step in steps(graph, passes):
        graph, changed = step.outcome.graph, changed or step.outcome.changed
        notes.extend(step.outcome.notes)
    return Outcome(graph, changed, tuple(notes))


def standard(graph: Graph) -> tuple[Graph, tuple[Note, ...]]:
    """The graph that targets see, with what was recovered and why promising patterns were left alone."""
    outcome = run_passes(graph)
    return outcome.graph, summary(outcome.notes)


def summary(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Equal rewrites of many layers as one line (at the first of them); every near miss."""
    first: dict[tuple[str, str], Note] = {}
    count: dict[tuple[str, str], int] = {}
    for note in notes:
        if note.applied:
            key = (note.rule, note.reason)
            first.setdefault(key, note)
            count[key] = count.get(key, 0) + 1
    done = [
        note if count[key] == 1 else replace(note, reason=f"{note.reason}, {count[key]} times")
        for key, note in first.items()
    ]
    return (*done, *(note for note in notes if not note.applied))
