"""Nodes with damaged attributes, constants, shapes and inputs are read or refused: no traceback."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_operator_conformance  # noqa: F401  (registers the generators)
from random_operators import GENERATORS, Draw, Drawn

from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ops.registry import work_of

MUTATIONS = 400
INTEGERS = (-1, 0, 1, 2, 7, -9, 10**6, 2**31 - 1, 2**62, -(2**63))
FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e30)


def mutated_value(value: Any, r: random.Random) -> Any:
    if isinstance(value, int):
        return r.choice(INTEGERS)
    if isinstance(value, float):
        return r.choice(FLOATS)
    if isinstance(value, str):
        return r.choice(("", "xx", value.upper(), "NOTSET"))
    changed = list(value)
    if not changed:
        return changed
    kind = r.choice(("shorter", "longer", "other"))
    if kind == "shorter":
        return changed[:-1]
    if kind == "longer":
        return [*changed, changed[0]]
    changed[r.randrange(len(changed))] = mutated_value(changed[0], r)
    return changed


def mutated_array(array: np.ndarray, r: random.Random) -> np.ndarray:
    kind = r.choice(("cut", "deeper", "flat", "number"))
    if kind == "cut" and array.ndim:
        return array[: r.randrange(array.shape[0] + 1)]
    if kind == "deeper":
        return array[None]
    if kind == "flat":
        return array.reshape(-1)
    copy = array.copy().reshape(-1)
    if copy.size and array.dtype.kind in "iu":
        copy[r.randrange(copy.size)] = np.array(r.choice(INTEGERS[:6])).astype(array.dtype)
    elif copy.size and array.dtype.kind == "f":
        copy[r.randrange(copy.size)] = r.choice((np.nan, np.inf, 0.0, -1.0))
    return copy.reshape(array.shape)


def mutated(drawn: Drawn, r: random.Random) -> Drawn:
    drawn = replace(drawn, inputs=tuple(drawn.inputs) or (*drawn.feeds, *drawn.constants))
    kinds = [*(("attribute", "attribute", "dropped") if drawn.attrs else ()), "input"]
    kinds += [*(["constant"] if drawn.constants else []), *(["feed", "feed"] if drawn.feeds else [])]
    kind = r.choice(kinds)
    if kind in ("attribute", "dropped"):
        name = r.choice(list(drawn.attrs))
        attrs = dict(drawn.attrs)
        value = attrs.pop(name)
        return replace(drawn, attrs=attrs if kind == "dropped" else {**attrs, name: mutated_value(value, r)})
    if kind == "constant":
        name = r.choice(list(drawn.constants))
        array = mutated_array(np.asarray(drawn.constants[name]), r)
        return replace(drawn, constants={**drawn.constants, name: array})
    if kind == "feed":
        name = r.choice(list(drawn.feeds))
        return replace(drawn, feeds={**drawn.feeds, name: mutated_array(drawn.feeds[name], r)})
    inputs = list(drawn.inputs)
    if inputs:
        inputs.pop(r.randrange(len(inputs)))
    return replace(drawn, inputs=tuple(inputs) or ("",))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_nodes_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    r, d = random.Random(seed), Draw(np.random.default_rng(seed))
    path = tmp_path / "mutated.onnx"
    read = refused = 0
    for _ in range(MUTATIONS):
        op = r.choice(sorted(GENERATORS))
        drawn = mutated(r.choice(GENERATORS[op])(d), r)
        try:
            data = drawn.model().SerializeToString()
        except (TypeError, ValueError):  # no such node can be written
            continue
        path.write_bytes(data)
        try:
            with np.errstate(all="ignore"):
                for node in import_onnx(path).nodes:
                    work_of(node)
        except UserError:
            refused += 1
        else:
            read += 1
    assert read > MUTATIONS // 2
    assert refused > MUTATIONS // 20
