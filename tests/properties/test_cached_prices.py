"""A price that caches hold is the price that empty caches give, whichever parameter was changed before.

Caches are keyed by the part of a configuration that their results depend on (`Aspect`); a key that sees too
little would answer with the numbers of another configuration.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel

from tetrasim.dse.candidate import resolve_point
from tetrasim.dse.graphs import load
from tetrasim.dse.space import Scalar
from tetrasim.dse.spec_file import make_spec
from tetrasim.errors import CapacityError, UserError
from tetrasim.flow.loading import LoadedModel
from tetrasim.flow.phases import run_phases
from tetrasim.flow.setup import Setup, set_up
from tetrasim.sim.workload import Workload

WORK = Workload(batch=2, prompt=20, generate=2)
# What only reads files, which no configuration changes.
READERS = ("calibration", "yaml_device", "presets", "registry", "errors", "hostinfo")
PRESETS: dict[str, tuple[dict[str, Scalar], ...]] = {
    "pim/pim-gpt": ({}, {"precision": "int8"}),
    "pim/hbm-pim": ({},),
    "gpu/a100-sxm4-80gb": ({}, {"launch": "eager"}, {"fill": 0.6, "attention": "grouped"}),
    "cpu/xeon-6154": ({}, {"attention": "iceformer", "iceformer_top_k": 8}),
    "fpga/u280": ({"mapping": "overlay"},),
}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    dims = {"layers": 2, "width": 64, "heads": 4, "ffn_width": 128, "input.vocab": 100}
    spec = make_spec(
        {
            "model": {"preset": "gpt2-small", "dims": dims},
            "workload": {"batch": WORK.batch, "prompt": WORK.prompt, "generate": WORK.generate},
            "targets": {"gpu/t4": {}},
            "objectives": ["latency_us"],
        }
    )
    return load(resolve_point(spec, {}))


def changes(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Another value for every leaf: numbers a quarter more and less, every other word of a choice."""
    for name, field in type(config).model_fields.items():
        value, path = getattr(config, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from changes(value, f"{path}.")
        elif isinstance(value, bool):
            yield path, not value
        elif isinstance(value, Enum):
            yield from ((path, str(other.value)) for other in type(value) if other is not value)
        elif get_origin(field.annotation) is Literal:
            yield from ((path, other) for other in get_args(field.annotation) if other != value)
        elif isinstance(value, int):
            yield from ((path, v) for v in (value + 1, value * 2, value // 2))
        elif isinstance(value, float):
            yield from ((path, v) for v in (value * 1.25, value * 0.75))


def totals(model: LoadedModel, setup: Setup) -> bytes:
    """Every number of a run, or why there is none."""
    try:
        runs = run_phases(model, setup, WORK)
    except (CapacityError, UserError) as refusal:
        return str(refusal).encode()
    columns = [getattr(r.totals, f.name) for r in runs for f in fields(r.totals)]
    return b"".join(c.tobytes() for c in columns if isinstance(c, np.ndarray))


def forget() -> None:
    """Empty every cache that a configuration can reach."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("tetrasim.hw_targets.", "tetrasim.sim.")) and not name.endswith(READERS):
            for thing in list(vars(module).values()):
                if hasattr(thing, "cache_clear"):
                    thing.cache_clear()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_cached_price_is_the_price(preset: str, model: LoadedModel) -> None:
    for base in PRESETS[preset]:
        setups: dict[str, Setup] = {}
        for path, value in changes(set_up(preset, base).config):
            try:
                setups[f"{path}={value}"] = set_up(preset, {**base, path: value})
            except UserError:
                continue  # a value that the configuration refuses
        assert len(setups) > 30
        warm = {change: totals(model, setup) for change, setup in setups.items()}
        for change, setup in setups.items():
            forget()
            assert totals(model, setup) == warm[change], f"{preset} {base} {change}"
