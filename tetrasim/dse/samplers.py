"""Search strategies: which point next. All through optuna's ask interface, seeded per trial.

Each ask gets a sampler seeded with (study seed, trial number), so that a study that was interrupted and
continued by one worker asks for the same points as one that was not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tetrasim.dse.space import TARGET, Parameter, Point, Scalar, StudySpec, domain_size, domain_values
from tetrasim.dse.space import Range as RangeDomain

if TYPE_CHECKING:
    import optuna

_PRIME = 1_000_003


def make_sampler(spec: StudySpec, number: int) -> optuna.samplers.BaseSampler:
    """The sampler for trial `number`."""
    import optuna

    seed = (spec.search.seed * _PRIME + number) % 2**31
    if spec.search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=20)
    if spec.search.sampler == "nsga2":
        size = max(8, min(50, spec.search.trials // 5))
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=size)
    return optuna.samplers.RandomSampler(seed=seed)


def suggest(trial: optuna.trial.Trial, spec: StudySpec) -> Point:
    """A point for an asked trial; parameters of the targets not chosen are not asked for."""
    point: Point = {}
    for parameter in spec.parameters:
        if parameter.target in ("", point.get(TARGET, next(iter(spec.targets)))):
            point[parameter.name] = _suggest_one(trial, parameter)
    return point


def _suggest_one(trial: optuna.trial.Trial, parameter: Parameter) -> Scalar:
    domain = parameter.domain
    if isinstance(domain, tuple):
        chosen = trial.suggest_categorical(parameter.name, list(domain))
        assert chosen is not None  # the domain holds no None
        return chosen
    if domain.whole:
        return trial.suggest_int(
            parameter.name, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log
        )
    return trial.suggest_float(
        parameter.name, float(domain.low), float(domain.high), step=domain.step, log=domain.log
    )


def grid_point(spec: StudySpec, number: int) -> Point:
    """Point `number` of the full grid: targets one after the other, the last axis fastest."""
    for target in spec.targets:
        axes = [p for p in spec.parameters if p.name != TARGET and p.target in ("", target)]
        sizes = [domain_size(p.domain) or 1 for p in axes]
        points = math.prod(sizes)
        if number >= points:
            number -= points
            continue
        point: Point = {TARGET: target} if len(spec.targets) > 1 else {}
        for axis, size in zip(reversed(axes), reversed(sizes), strict=True):
            number, place = divmod(number, size)
            point[axis.name] = _value(axis.domain, place)
        return point
    raise IndexError("beyond the grid")


def _value(domain: tuple[Scalar, ...] | RangeDomain, place: int) -> Scalar:
    return domain_values(domain)[place]
