"""Rows that join a cache are written alone, however the file spells it, with the values the file asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import ints, model, node, saved

import tetrasim
from tetrasim.frontend.onnx import import_onnx
from tetrasim.hw_targets.registry import target_names
from tetrasim.onnx_runtime import open_session
from tetrasim.sim.ir.graph import Graph, Role
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.passes.caches import PASS

HEADS, ROWS, WIDTH = 4, 64, 16
CACHE, ROW = [1, HEADS, ROWS, WIDTH], [1, HEADS, 1, WIDTH]
FORMS = {
    "grown": [node("Concat", ["past.0", "new"], ["present.0"], axis=2)],
    "grown, axis from the end": [node("Concat", ["past.0", "new"], ["present.0"], axis=-2)],
    "newest first": [node("Concat", ["new", "past.0"], ["present.0"], axis=2)],
    "two new rows": [node("Concat", ["past.0", "new", "new"], ["present.0"], axis=2)],
    "dropped, then grown": [
        node("Slice", ["past.0", "one", "end", "two"], ["rest"]),
        node("Concat", ["rest", "new"], ["present.0"], axis=2),
    ],
    "grown, then dropped": [
        node("Concat", ["past.0", "new"], ["all"], axis=2),
        node("Slice", ["all", "last", "end", "two"], ["present.0"]),
    ],
    "newest first, dropped": [
        node("Slice", ["past.0", "zero", "minus", "two"], ["rest"]),
        node("Concat", ["new", "rest"], ["present.0"], axis=2),
    ],
    "one index per element": [
        node("Expand", ["at", "shape"], ["index"]),
        node("ScatterElements", ["past.0", "index", "new"], ["present.0"], axis=2),
    ],
    "one index per row": [node("ScatterND", ["past.0", "places", "new"], ["present.0"])],
    "along an inner axis": [
        node("Transpose", ["past.0"], ["turned"], perm=[2, 0, 1, 3]),
        node("Transpose", ["new"], ["row"], perm=[2, 0, 1, 3]),
        node("ScatterND", ["turned", "place", "row"], ["written"]),
        node("Transpose", ["written"], ["present.0"], perm=[1, 2, 0, 3]),
    ],
}
RINGS = ("dropped, then grown", "grown, then dropped", "newest first, dropped")
IN_PLACE = ("one index per element", "one index per row", "along an inner axis")


def _file(form: str, folder: Path, *, cache: list[int] | None = None, row: list[int] | None = None) -> Path:
    cache, row = cache or CACHE, row or ROW
    places = [[[[0, h, 3]] for h in range(row[1])]]
    weights = {
        "one": ints(1), "zero": ints(0), "two": ints(2), "end": ints(2**40), "minus": ints(-1),
        "last": ints(-cache[2]), "shape": ints(*row), "places": np.array(places, dtype=np.int64),
    }  # fmt: skip
    used = {name for n in FORMS[form] for name in n.input}
    inputs = {"past.0": cache, "new": row, "at": [1, 1, 1, 1], "place": [1, 1]}
    nodes = [*FORMS[form], node("Neg", ["new"], ["y"])]
    proto = model(
        nodes,
        {name: shape for name, shape in inputs.items() if name in used | {"new"}},
        ["y", "present.0"],
        {name: array for name, array in weights.items() if name in used},
        types={"at": TensorProto.INT64, "place": TensorProto.INT64},
    )
    return saved(onnx.shape_inference.infer_shapes(proto), folder, "m.onnx")


def _writer(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes if n.outputs[0].role is Role.STATE]


@pytest.mark.parametrize("form", FORMS)
def test_values_are_those_of_the_file_and_only_rows_move(form: str, tmp_path: Path) -> None:
    path = _file(form, tmp_path)
    graph = import_onnx(path)
    rng = np.random.default_rng(3)
    feeds = {
        v.name: np.full(v.type.shape, 5) if v.type.bits == 64 else rng.standard_normal(v.type.shape)
        for v in graph.inputs
    }
    typed = {k: a.astype(np.int64 if a.dtype.kind == "i" else np.float32) for k, a in feeds.items()}
    expected = open_session(path).run(None, typed)
    for found, wanted in zip(interpret(graph, typed).values(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    (writer,) = (n for n in graph.nodes if n.outputs[0].role is Role.STATE)
    work = work_of(writer)
    new = 4 * HEADS * WIDTH * (2 if form == "two new rows" else 1)
    assert work.write_bytes == new
    assert work.read_bytes <= new + 8 * 3 * HEADS  # and the indices
    assert (writer.op == "KVAppend") is (form not in IN_PLACE)
    assert writer.attrs.get("evicted", 0) == (1 if form in RINGS else 0)


def test_rows_that_are_read_after_they_were_dropped_are_copied(tmp_path: Path) -> None:
    nodes = [*FORMS["dropped, then grown"], node("Neg", ["past.0"], ["y"])]
    weights = {"one": ints(1), "two": ints(2), "end": ints(2**40)}
    proto = model(nodes, {"past.0": CACHE, "new": ROW}, ["y", "present.0"], weights)
    assert "Concat" in _writer(import_onnx(saved(proto, tmp_path)))


def test_other_concatenations_stay(tmp_path: Path) -> None:
    nodes = [node("Concat", ["a", "new"], ["y"], axis=2)]
    graph = import_onnx(saved(model(nodes, {"a": CACHE, "new": ROW}, ["y"]), tmp_path))
    assert [n.op for n in graph.nodes] == ["Concat"]


@pytest.mark.parametrize("name", ["past", "cache", "layers.0.k_cache", "past_key_values.0.key"])
def test_an_input_named_like_a_cache_is_one_where_nothing_returns_it(name: str, tmp_path: Path) -> None:
    nodes = [node("Concat", [name, "new"], ["all"], axis=2), node("MatMul", ["q", "all"], ["y"])]
    shapes = {"q": [1, HEADS, 1, ROWS + 1], name: CACHE, "new": ROW}
    graph = import_onnx(saved(model(nodes, shapes, ["y"]), tmp_path))
    assert [n.op for n in graph.nodes] == ["KVAppend", "MatMul"]
    assert graph.nodes[0].outputs[0].role is Role.STATE


def test_lengths_and_masks_are_no_cache(tmp_path: Path) -> None:
    types = {"past_length": TensorProto.INT64, "past.mask": TensorProto.BOOL}
    nodes = [node("Cast", ["past.mask"], ["m"], to=1), node("Cast", ["past_length"], ["l"], to=1)]
    nodes.append(node("Mul", ["m", "l"], ["y"]))
    graph = import_onnx(
        saved(model(nodes, {"past.mask": [2, 3], "past_length": [1]}, ["y"], types=types), tmp_path)
    )
    assert all(v.role is Role.INPUT for v in graph.inputs)


def test_the_pass_is_idempotent(tmp_path: Path) -> None:
    for form in FORMS:
        graph = import_onnx(_file(form, tmp_path))
        assert not PASS.run(graph).changed


_PRESETS = {"fpga": "fpga/u280", "gpu": "gpu/a100-sxm4-80gb", "pim": "pim/pim-gpt", "cpu": "cpu/xeon-6154"}


@pytest.mark.parametrize("target", sorted(_PRESETS))
def test_no_form_costs_more_than_a_grown_cache(target: str, tmp_path: Path) -> None:
    """A row of 16 kB joins a cache of 64 MB: what its form of writing adds is small on every target."""
    assert target in target_names()
    times = {}
    for form in ("grown", "dropped, then grown", *IN_PLACE):
        folder = tmp_path / form.replace(" ", "_").replace(",", "")
        folder.mkdir()
        path = _file(form, folder, cache=[1, 32, 4096, 128], row=[1, 32, 1, 128])
        on = [_PRESETS[target]]
        settings = {"kv_append": "in-place"} if target == "cpu" else {}
        run = tetrasim.simulate(path, on=on, settings=settings, numerics=False, use_cache=False)
        times[form] = run.results[0].latency.value
    copy_ns = 2 * 32 * 4096 * 128 / 2000e9 * 1e9 * 2  # of a cache in 16-bit numbers, at the A100's 2 TB/s
    assert max(times.values()) < times["grown"] + copy_ns / 2
