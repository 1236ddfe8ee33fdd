"""The design space of a study, as checked data: a YAML file, or the same in Python.

    model: {preset: digits-tiny, dims: {width: [8, 16, 32]}, train: true}
    workload: {batch: [1, 4]}
    targets:
      fpga/vu13p: {numbers.bits: [8, 12, 16], spatial.reuse: {low: 1, high: 64, log: true}}
    objectives: [latency_us, lut, accuracy]
    constraints: ["latency_us <= 50", "fits"]
    search: {sampler: nsga2, trials: 200, seed: 1}

A list is a choice, `{low, high}` a range, a single value is fixed. Parameters are named by dotted path:
`model.width`, `workload.batch`, `fpga/vu13p:numbers.bits`. Every path is checked against the model's dims and
the target's configuration before anything runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tetrasim.dse.prices import Ownership, Price

Scalar = str | int | float | bool
Point = dict[str, Scalar]
TARGET = "target"
MAX_CHOICES = 4096
NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,79}$"
_CONSTRAINT = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=)\s*([-+0-9.eE]+)\s*$")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Range(_Frozen):
    """Numbers from low to high, both included; whole when both ends and the step are."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a log range needs low > 0 and no step")
        if self.step is not None and self.step <= 0:
            raise ValueError("step must be positive")
        return self

    @property
    def whole(self) -> bool:
        return all(isinstance(x, int) for x in (self.low, self.high, self.step or 1))

    @property
    def ends(self) -> tuple[int | float, int | float]:
        return self.low, self.high


Domain = Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=MAX_CHOICES)] | Range


class ModelSpace(_Frozen):
    """`dims` are fields of the model's configuration by dotted path; `ffn_ratio` sets ffn_width to that many
    times the width, `tokens` cuts a feature input into that many tokens. `train`: train on scikit-learn's
    digits (digits-tiny), so that accuracy can be asked for."""

    preset: Scalar | tuple[str, ...] = "gpt2-small"
    dims: dict[str, Domain] = {}
    train: bool = False
    steps: int = Field(default=0, ge=0, description="training epochs; 0: the preset's own")


class WorkloadSpace(_Frozen):
    batch: Domain = 1
    prompt: Domain = 32
    generate: Domain = 0


class BitsSpace(_Frozen):
    """Bits per tensor class; each target takes the number format that has them (`bits.py`)."""

    weights: Domain | None = None
    activations: Domain | None = None
    state: Domain | None = None
    accumulate: Domain | None = None

    @property
    def named(self) -> dict[str, Domain]:
        """The classes that the study speaks of."""
        return {role: domain for role, domain in self if domain is not None}


class Search(_Frozen):
    """`stall`: stop after that many completed trials without a better front (0: never). `screen`: skip points
    that a lower bound already proves dominated."""

    sampler: Literal["grid", "random", "tpe", "nsga2"] = "tpe"
    trials: int = Field(default=100, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**31)
    stall: int = Field(default=0, ge=0)
    screen: bool = False


@dataclass(frozen=True, slots=True)
class Constraint:
    """`metric <= bound` (sign +1) or `metric >= bound` (sign -1)."""

    metric: str
    sign: int
    bound: float

    def violation(self, value: float) -> float:
        """Positive when violated, as optuna's samplers read it."""
        return self.sign * (value - self.bound)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One axis of the space; `target` restricts it to the trials of one target ("": all)."""

    name: str
    domain: tuple[Scalar, ...] | Range
    target: str = ""


class StudySpec(_Frozen):
    """A whole study."""

    name: Annotated[str, Field(pattern=NAME)] = "study"  # part of folder names and job names
    model: ModelSpace = ModelSpace()
    workload: WorkloadSpace = WorkloadSpace()
    bits: BitsSpace = BitsSpace()
    targets: dict[str, dict[str, Domain]]
    objectives: Annotated[tuple[str, ...], Field(min_length=1, max_length=4)]
    constraints: tuple[str, ...] = ()
    prices: dict[str, Price] = {}
    ownership: Ownership | None = None
    search: Search = Search()

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Every axis with more than one value, in the order written; the target comes first."""
        return tuple(p for p in self._axes() if isinstance(p.domain, Range) or len(p.domain) > 1)

    @cached_property
    def fixed(self) -> tuple[Parameter, ...]:
        """What has one value."""
        return tuple(p for p in self._axes() if not isinstance(p.domain, Range) and len(p.domain) == 1)

    def _axes(self) -> Iterator[Parameter]:
        yield Parameter(TARGET, tuple(self.targets))
        yield Parameter("model.preset", _choices(self.model.preset))
        for path, domain in self.model.dims.items():
            yield Parameter(f"model.{path}", _domain(domain))
        for name in ("batch", "prompt", "generate"):
            yield Parameter(f"workload.{name}", _domain(getattr(self.workload, name)))
        for role, domain in self.bits.named.items():
            yield Parameter(f"bits.{role}", _domain(domain))
        for target, paths in self.targets.items():
            for path, domain in paths.items():
                yield Parameter(f"{target}:{path}", _domain(domain), target)

    @cached_property
    def limits(self) -> tuple[Constraint, ...]:
        """The numeric constraints, parsed."""
        return tuple(limit for text in self.constraints if (limit := parse_limit(text)) is not None)

    @property
    def must_fit(self) -> bool:
        return "fits" in self.constraints

    @property
    def grid_size(self) -> int | None:
        """Points of the full grid; None when a range is continuous. A target's own axes count once each."""
        total = 0
        for target in self.targets:
            points = 1
            for p in self.parameters:
                if p.name == TARGET or p.target not in ("", target):
                    continue
                size = domain_size(p.domain)
                if size is None:
                    return None
                points *= size
            total += points
        return total

    def to_json(self) -> str:
        """Canonical text: equal specs give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def parse_limit(text: str) -> Constraint | None:
    """`metric <= number` or `metric >= number`; None when it is neither."""
    match = _CONSTRAINT.match(text)
    bound = _number(match.group(3)) if match else None
    if match is None or bound is None:
        return None
    return Constraint(match.group(1), 1 if match.group(2) == "<=" else -1, bound)


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _choices(value: Scalar | tuple[str, ...]) -> tuple[Scalar, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def _domain(domain: Domain) -> tuple[Scalar, ...] | Range:
    if isinstance(domain, Range):
        return (domain.low,) if domain.low == domain.high else domain
    return tuple(dict.fromkeys(domain)) if isinstance(domain, tuple) else (domain,)


def domain_size(domain: tuple[Scalar, ...] | Range) -> int | None:
    """How many values; None for a continuous range."""
    if isinstance(domain, tuple):
        return len(domain)
    if domain.whole:
        return int((domain.high - domain.low) // (domain.step or 1)) + 1
    return None if domain.step is None else int((domain.high - domain.low) / domain.step + 1e-9) + 1


def domain_values(domain: tuple[Scalar, ...] | Range) -> list[Scalar]:
    """All values in order (not for continuous ranges)."""
    if isinstance(domain, tuple):
        return list(domain)
    step = domain.step or 1
    return [domain.low + i * step for i in range(domain_size(domain) or 0)]
