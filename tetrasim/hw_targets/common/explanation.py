"""What a target says about the price of one op (`Target.explain`); `reports/explain.py` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tetrasim.sim.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that was or could have been chosen, and what it takes; `chosen` once."""

    name: str
    time_us: float
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that a price rests on. `source` says where it is from; a number of the device file names its
    dotted `path` instead, whose source the file states."""

    name: str
    value: float
    unit: str
    source: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one kernel (or whatever a target runs an op as) takes what it takes.

    `choices`: what the mapping chose, in words (tile, split, schedule); `candidates`: the alternatives that
    were compared, fastest first; `formula`: how the time comes about, in the terms of `parts`, `choices` and
    `constants`; `parts`: time by part, us; `level_bytes`: bytes by memory level."""

    kernel: str
    time_us: float
    bound_by: str
    formula: str
    parts: tuple[tuple[str, float], ...] = ()
    level_bytes: tuple[tuple[str, float], ...] = ()
    choices: tuple[tuple[str, str], ...] = ()
    candidates: tuple[Candidate, ...] = ()
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an op stands: node `node` of `graph`; an op alone has no graph."""

    graph: Graph
    node: int


@dataclass(frozen=True, slots=True)
class Explained:
    """`what`: the op, where it stands and on what; `kernels`: one explanation each; `evidence`: the range of
    measurements that covers it, or why there is none."""

    what: str
    kernels: tuple[Explanation, ...]
    evidence: str
