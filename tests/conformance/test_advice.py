"""On every preset of every target: advice names settings that exist, are not taken already, and help."""

from collections.abc import Iterator
from enum import Enum
from typing import Literal, get_args, get_origin

import pytest
from graphs import feed_forward

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.parts import advice_text
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.common.target import Config, Target
from tetrasim.hw_targets.registry import find_preset, load_target, preset_names, target_names
from tetrasim.sim.engine.runs import total_runs
from tetrasim.sim.passes.precision import with_precision


def choices(config: Config) -> Iterator[dict[str, str | int | float | bool]]:
    """Every value of every setting that is a choice, one at a time, and the configuration as it is."""
    yield {}
    for name, field in type(config).model_fields.items():
        kind = field.annotation
        if get_origin(kind) is Literal:
            values = get_args(kind)
        elif isinstance(kind, type) and issubclass(kind, Enum):
            values = tuple(str(member.value) for member in kind)
        elif kind is bool:
            values = (True, False)
        else:
            continue
        yield from ({name: value} for value in values)


def configurations(preset: str) -> Iterator[tuple[Target[Config], Config]]:
    target, found = find_preset(preset)
    for changes in choices(found.config):
        try:
            yield target, with_overrides(found.config, changes)
        except UserError:
            continue  # two settings that exclude each other


@pytest.mark.parametrize("preset", preset_names())
def test_advice_names_settings_that_exist_and_are_not_taken(preset: str) -> None:
    for target, config in configurations(preset):
        for part in target.parts:
            for advice in part.advice(config):
                assert advice.settings, (part.name, advice.text)
                changed = with_overrides(config, dict(advice.settings))
                assert changed != config, (part.name, advice.text)
                assert advice_text((advice,)).startswith(advice.text)


@pytest.mark.parametrize("name", target_names())
def test_every_part_of_a_program_is_defined(name: str) -> None:
    target = load_target(name)
    known = {part.name for part in target.parts}
    for preset in (p for p in preset_names() if p.startswith(f"{name}/")):
        _, found = find_preset(preset)
        graph = with_precision(feed_forward(4, 16), target.precision(found.config))
        assert set(target.lower(graph, found.config).part_names) <= known


SMALL, LARGE = (4, 16), (8, 512)  # rows and width; the small one is laid out as a pipeline on an FPGA


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        *((name, LARGE) for name in preset_names()),
        *((name, SMALL) for name in preset_names() if name.startswith("fpga/")),
    ],
)
def test_taking_advice_helps(preset: str, size: tuple[int, int]) -> None:
    """What is advised against a part that holds a tenth of the time shortens the run."""
    target, found = find_preset(preset)
    config = found.config

    def time_by_part(config: Config) -> dict[str, int]:
        graph = with_precision(feed_forward(*size, layers=2), target.precision(config))
        totals = total_runs(iter([target.lower(graph, config)]), 1, len(graph.nodes))
        return dict(zip(totals.part_names, totals.part_ps[0].tolist(), strict=True))

    before = time_by_part(config)
    whole = sum(before.values())
    for part in target.parts:
        if before.get(part.name, 0) < 0.1 * whole:
            continue
        for advice in part.advice(config):
            after = time_by_part(with_overrides(config, dict(advice.settings)))
            assert sum(after.values()) < whole, (part.name, advice)
