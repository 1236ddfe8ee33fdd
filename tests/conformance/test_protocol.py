"""What every target found by location promises, on every preset: what the author of a target runs first."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from graphs import feed_forward

import tetrasim.hw_targets
from tetrasim.errors import CapacityError, UserError
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.common.target import Config, Target
from tetrasim.hw_targets.registry import find_preset, load_target, preset_names, target_names
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.rounding import EXACT
from tetrasim.sim.ops.single import attention_work, matmul_work, vector_op_names, vector_work
from tetrasim.sim.passes.precision import with_precision
from tetrasim.sim.precision import FLOAT16, FLOAT32, Precision

FOLDER = Path(tetrasim.hw_targets.__file__).parent
# Modules of a target's folder that were once found by their names; a target now names what it can do.
ABILITIES = ("validate", "measure", "calibrate")


@pytest.mark.parametrize("name", target_names())
def test_a_target_is_called_like_its_folder_and_has_presets_and_evidence(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.title
    assert any(preset.startswith(f"{name}/") for preset in preset_names())
    assert (FOLDER / name / "VALIDATION.md").is_file()


@pytest.mark.parametrize("name", target_names())
def test_what_lies_in_the_folder_is_named_by_the_target(name: str) -> None:
    """A `validate.py` that no target names would never be run."""
    target = load_target(name)
    for ability in ABILITIES:
        if importlib.util.find_spec(f"tetrasim.hw_targets.{name}.{ability}") is not None:
            assert getattr(target, ability) is not None, ability


@pytest.mark.parametrize("name", [n for n in target_names() if load_target(n).validate is not None])
def test_validation_gives_dataclasses(name: str) -> None:
    run = load_target(name).validate
    assert run is not None
    if name == "pim":  # simulates full systems for half a minute; tests/validation runs it
        pytest.skip("run by tests/validation/test_pim_validation.py")
    rows = run()
    assert rows
    assert all(is_dataclass(row) for row in rows)


@pytest.mark.parametrize("preset", preset_names())
def test_every_level_of_a_program_has_its_peak(preset: str) -> None:
    target, found = find_preset(preset)
    peaks = target.peaks(found.config)
    assert peaks.macs_per_s > 0
    assert peaks.vector_ops_per_s > 0
    assert all(rate > 0 for _, rate in peaks.bytes_per_s)
    graph = with_precision(feed_forward(4, 16), target.precision(found.config))
    try:
        target.capacity(graph, found.config)
    except CapacityError as refusal:
        pytest.skip(str(refusal))
    program = target.lower(graph, found.config)
    assert set(program.level_names) <= {name for name, _ in peaks.bytes_per_s}


WORKS = [
    matmul_work(8, 64, 64, FLOAT32),
    attention_work(1, 4, 2, 2, 16, 32, True, FLOAT32),
    *(vector_work(op, 8, 64, FLOAT32) for op in vector_op_names()),
]


@pytest.mark.parametrize("preset", preset_names())
def test_every_op_has_a_price_or_a_refusal_that_names_it(preset: str) -> None:
    target, found = find_preset(preset)
    for work in WORKS:
        try:
            prices = target.price([work], found.config)
        except UserError as refusal:
            told = refusal.what
        else:
            told = ""
        if told:
            assert work.op in told
            continue
        assert prices.latency_us[0] > 0, work
        assert prices.energy_uj[0] > 0, work
        assert prices.bound_by[0], work


def precisions(config: Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every word of every choice of formats in a configuration: (dotted path, word)."""
    for name, field in type(config).model_fields.items():
        value, path = getattr(config, name), f"{prefix}{name}"
        if isinstance(value, Config):
            yield from precisions(value, f"{path}.")
        elif name in ("precision", "format"):
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Enum):
                yield from ((path, str(word.value)) for word in kind)
            elif get_origin(kind) is Literal:
                yield from ((path, str(word)) for word in get_args(kind))


def first_presets() -> list[str]:
    """One preset per target: the arithmetic depends on the precision, not on the device."""
    return [next(p for p in preset_names() if p.startswith(f"{name}/")) for name in target_names()]


@pytest.mark.parametrize("preset", first_presets())
def test_the_arithmetic_is_that_of_the_precision(preset: str) -> None:
    """Where formats are narrower than float32, the emulated result differs from the exact one."""
    target, found = find_preset(preset)
    words = list(precisions(found.config))
    configs = [found.config]
    for path, word in words:
        try:
            configs.append(with_overrides(found.config, {path: word}))
        except UserError:
            continue  # a combination that the configuration refuses
    graph = feed_forward(4, 16)
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)}
    (exact,) = interpret(graph, feeds, EXACT).values()
    for config in configs:
        formats = target.precision(config)
        lowered = with_precision(graph, formats)
        (found_values,) = interpret(lowered, feeds, target.emulated(config)).values()
        narrow = {formats.weights, formats.activations} != {FLOAT32}
        assert (not np.array_equal(exact, found_values)) or not narrow, formats


def test_a_target_that_says_half_and_rounds_nothing_is_refused() -> None:
    target, found = find_preset("cpu/xeon-6154")
    silent: Target[Config] = replace(
        target, precision=lambda _c: Precision(FLOAT16), arithmetic=lambda _c: EXACT
    )
    with pytest.raises(UserError, match="computes in float16 and emulates no rounding"):
        silent.emulated(found.config)
