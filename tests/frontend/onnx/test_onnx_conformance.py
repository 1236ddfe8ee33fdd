"""Every op agrees with the ONNX standard's own node tests (data of the `onnx` package)."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of

# What no static graph of numbers can be, see `docs/onnx.md`
OUTSIDE = (
    "NonZero", "Unique", "Compress", "NonMaxSuppression",  # shapes that data decide
    "StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder",
    "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceInsert", "SequenceErase", "SequenceMap",
    "Bernoulli", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial",
    "MaxRoiPool", "Gradient", "Adagrad", "Adam", "Momentum", "ArrayFeatureExtractor", "Binarizer",
    "TreeEnsemble", "LabelEncoder", "FlexAttention",
)  # fmt: skip


@cache
def cases() -> dict[str, list]:
    """Node tests by op."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, list] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            used = {n.op_type for g in (case.model.graph, *case.model.functions) for n in g.node}
            if not used & set(OUTSIDE):
                found.setdefault(case.model.graph.node[0].op_type, []).append(case)
    return found


# Floats that fix a shape, or the whole result
SCALARS = ("depth", "start", "limit", "delta", "scales", "roi", "lower_edge_hertz", "upper_edge_hertz")


def array_of(value: object) -> np.ndarray | None:
    """Data sets hold arrays, numpy scalars or protobuf tensors."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return None if value is None else np.asarray(value)


def frozen(model: onnx.ModelProto, inputs: list) -> onnx.ModelProto:
    """The model with its small integer inputs as initializers: what exporters write for axes and shapes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.input[:]
    for value, array in zip(model.graph.input, inputs, strict=False):
        if array is None:
            continue
        if (array.dtype in (np.int64, np.int32) and array.ndim <= 1) or value.name in SCALARS:
            copy.graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            copy.graph.input.append(value)
    return copy


def run(case, tmp_path: Path) -> int:
    """Import, price and interpret a case on all its data sets; returns how many values were compared."""
    compared = 0
    for given, wanted in case.data_sets:
        inputs, expected = [array_of(a) for a in given], [array_of(a) for a in wanted]
        model = frozen(case.model, inputs)
        path = tmp_path / "case.onnx"
        path.write_bytes(model.SerializeToString())
        graph = import_onnx(path)
        for node in graph.nodes:
            work_of(node)
        feeds = {
            v.name: a
            for v, a in zip(case.model.graph.input, inputs, strict=False)
            if a is not None and any(v.name == i.name for i in graph.inputs)
        }
        actual = interpret(graph, feeds)
        for value, want in zip(case.model.graph.output, expected, strict=True):
            got = actual[value.name]
            assert got.shape == want.shape
            # floats of 16 bits are carried in 32 here, so only their rounding may differ
            narrow = {v.type.tensor_type.elem_type for v in (*case.model.graph.input, value)} & {10, 16}
            tolerance = 2e-2 if narrow else case.rtol
            np.testing.assert_allclose(
                got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=1e-2 if narrow else 1e-5
            )
            compared += 1
    return compared


def refusal(case) -> str:
    """Why a case is outside what a static graph of numbers can be; empty: it must pass."""
    types = [v.type for v in (*case.model.graph.input, *case.model.graph.output)]
    if any(not t.HasField("tensor_type") for t in types):
        return "sequence or optional types"
    codes = {t.tensor_type.elem_type for t in types}
    codes |= {
        a.i for n in case.model.graph.node for a in n.attribute if a.name in ("to", "dtype", "output_dtype")
    }
    supported = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 17, 19, 21, 22, 23, 25, 26}
    if not codes <= supported | {0}:
        return "element types without arithmetic here"
    return ""


# Cases that must be refused with a message: what the importer does not allow, by part of the case name
REFUSED = (
    "training",
    "test_if",  # sequences or optionals as results
    "loop13_seq",  # sequences as loop state
    "loop16_seq",
    "test_scan_sum",  # the form of opset 8
)
# onnxruntime rounds the length before it aligns corners, and so do we; the standard's vectors do not
DISPUTED = ("resize_downsample_scales_linear_align_corners", "resize_downsample_scales_cubic_align_corners")


@pytest.mark.parametrize("op", sorted(cases()))
def test_op_agrees_with_the_standard(op: str, tmp_path: Path) -> None:
    ran, failures = 0, []
    if all(refusal(case) for case in cases()[op]):
        pytest.skip(f"every case has {refusal(cases()[op][0])}")
    for case in cases()[op]:
        if refusal(case) or any(name in case.name for name in DISPUTED):
            continue
        if any(part in case.name for part in REFUSED):
            try:
                run(case, tmp_path)
            except UserError:
                ran += 1
                continue
        try:
            ran += run(case, tmp_path)
        except UserError as error:
            failures.append(f"{case.name}: {error}")
        except AssertionError as error:
            failures.append(f"{case.name}: {' '.join(str(error).split())[:200]}")
    assert not failures, f"{len(failures)} of {len(cases()[op])}\n" + "\n".join(failures)
    assert ran > 0
