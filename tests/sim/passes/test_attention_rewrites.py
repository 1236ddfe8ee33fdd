"""Attention is recovered from every spelling that exporters use, and computes the same before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_models import ints, model, node, saved

from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.passes.pipeline import standard

WIDTH = 4
LOW = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Spelling:
    """One way to write attention."""

    scale_on: str  # "scores", "q", "both", "div", "none"
    mask: (
        str  # "none", "where", "where_not", "add_inf", "add_min", "padding", "and_padding", "bias", "window"
    )
    guard: bool
    key_form: str  # "transpose", "reshape3", "projected"
    groups: int  # query heads per key head
    out_transposed: bool
    q_len: int
    kv_len: int
    batch: int
    heads: int


spellings = st.builds(
    Spelling,
    scale_on=st.sampled_from(["scores", "q", "both", "div", "none"]),
    mask=st.sampled_from(
        ["none", "where", "where_not", "add_inf", "add_min", "padding", "and_padding", "bias", "window"]
    ),
    guard=st.booleans(),
    key_form=st.sampled_from(["transpose", "reshape3", "projected"]),
    groups=st.sampled_from([1, 2]),
    out_transposed=st.booleans(),
    q_len=st.integers(2, 4),
    kv_len=st.integers(4, 6),
    batch=st.integers(1, 2),
    heads=st.sampled_from([2, 4]),
)


class Builder:
    """Collects the nodes and inputs of a spelling."""

    def __init__(self, s: Spelling) -> None:
        self.s = s
        self.kv = s.heads // s.groups
        tokens_first = (s.batch, s.kv_len, self.kv, WIDTH)
        self.inputs: dict[str, tuple[int, ...]] = {
            "q": (s.batch, s.heads, s.q_len, WIDTH),
            "v": (s.batch, self.kv, s.kv_len, WIDTH),
            "k": tokens_first if s.key_form == "projected" else (s.batch, self.kv, s.kv_len, WIDTH),
        }
        self.nodes: list[onnx.NodeProto] = []
        self.types: dict[str, int] = {}

    def weights(self) -> dict[str, np.ndarray]:
        """Every constant that some spelling uses."""
        s = self.s
        visible = np.tril(np.ones((s.q_len, s.kv_len), bool), s.kv_len - s.q_len)
        return {
            "scale": np.float32(0.3),
            "root": np.float32(0.3**0.5),
            "divisor": np.float32(1 / 0.3),
            "zero": np.float32(0),
            "inf": np.float32(-np.inf),
            "low": np.float32(LOW),
            "visible": visible,
            "hidden": ~visible,
            "window": visible & ~np.tril(np.ones_like(visible), s.kv_len - s.q_len - 2),
            "causal_add": np.where(visible, 0, -np.inf).astype(np.float32),
            "causal_min": np.where(visible, 0, LOW).astype(np.float32),
            "expand5": ints(s.batch, self.kv, s.groups, s.kv_len, WIDTH),
            "view5": ints(s.batch, self.kv, 1, s.kv_len, WIDTH),
            "view4": ints(s.batch, s.heads, s.kv_len, WIDTH),
            "view3": ints(-1, s.kv_len, WIDTH),
            "turned4": ints(s.batch, s.heads, WIDTH, s.kv_len),
        }

    def add(self, op: str, ins: list[str], out: str, **attrs: object) -> str:
        self.nodes.append(node(op, ins, [out], **attrs))
        return out

    def repeated(self, name: str) -> str:
        if self.s.groups == 1:
            return name
        self.add("Reshape", [name, "view5"], f"{name}5")
        self.add("Expand", [f"{name}5", "expand5"], f"{name}6")
        return self.add("Reshape", [f"{name}6", "view4"], f"{name}7")

    def key(self) -> str:
        """K transposed for the product."""
        k = self.add("Transpose", ["k"], "kh", perm=[0, 2, 1, 3]) if self.s.key_form == "projected" else "k"
        k = self.repeated(k)
        if self.s.key_form != "reshape3":
            return self.add("Transpose", [k], "kt", perm=[0, 1, 3, 2])
        self.add("Reshape", [k, "view3"], "k3")
        self.add("Transpose", ["k3"], "k3t", perm=[0, 2, 1])
        return self.add("Reshape", ["k3t", "turned4"], "kt")

    def scores(self, q: str, k: str) -> str:
        """The scaled product."""
        how = self.s.scale_on
        if how in ("q", "both"):
            q = self.add("Mul", [q, "scale" if how == "q" else "root"], "qs")
        if how == "both":
            k = self.add("Mul", [k, "root"], "ks")
        scores = self.add("MatMul", [q, k], "scores")
        if how == "scores":
            return self.add("Mul", ["scale", scores], "scaled")
        return self.add("Div", [scores, "divisor"], "scaled") if how == "div" else scores

    def masked(self, scores: str) -> str:
        s = self.s
        if s.mask in ("padding", "and_padding"):
            self.inputs["pad"], self.types["pad"] = (s.batch, 1, 1, s.kv_len), TensorProto.BOOL
            mask = self.add("And", ["visible", "pad"], "seen") if s.mask == "and_padding" else "pad"
            self.add("Where", [mask, "zero", "inf"], "additive")
            return self.add("Add", [scores, "additive"], "masked")
        if s.mask == "bias":
            self.inputs["b"] = (1, s.heads, s.q_len, s.kv_len)
            return self.add("Add", ["b", scores], "masked")
        simple = {
            "where": ("Where", ["visible", scores, "inf"]),
            "where_not": ("Where", ["hidden", "low", scores]),
            "window": ("Where", ["window", scores, "inf"]),
            "add_inf": ("Add", [scores, "causal_add"]),
            "add_min": ("Add", [scores, "causal_min"]),
        }
        return self.add(*simple[s.mask], "masked") if s.mask in simple else scores


def attention_model(s: Spelling) -> onnx.ModelProto:
    """The spelling as a model with inputs q, k, v in [batch, heads, tokens, width]."""
    b = Builder(s)
    k, v = b.key(), b.repeated("v")
    weights_out = b.add("Softmax", [b.masked(b.scores("q", k))], "soft", axis=-1)
    if s.guard:
        b.add("IsNaN", ["soft"], "nan")
        weights_out = b.add("Where", ["nan", "zero", "soft"], "guarded")
    out = b.add("MatMul", [weights_out, v], "mixed")
    if s.out_transposed:
        out = b.add("Transpose", [out], "y", perm=[0, 2, 1, 3])
    used = {i for n in b.nodes for i in n.input}
    kept = {n: a for n, a in b.weights().items() if n in used}
    return model(b.nodes, b.inputs, [out], kept, types=b.types)


def feeds_of(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.type.shape).astype(np.float32) for v in graph.inputs}
    if "pad" in feeds:
        feeds["pad"] = np.ones(feeds["pad"].shape, bool)
        feeds["pad"][..., 1] = False
    return feeds


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(s=spellings)
def test_every_spelling_becomes_one_attention(tmp_path: Path, s: Spelling) -> None:
    path = saved(attention_model(s), tmp_path)
    raw = import_onnx(path, rewrites=False)
    graph, notes = standard(raw)
    feeds = feeds_of(raw)
    (before,), (after,) = interpret(raw, feeds).values(), interpret(graph, feeds).values()
    np.testing.assert_allclose(after, before, atol=2e-6)
    (found,) = [n for n in graph.nodes if n.op == "Attention"]
    assert all(note.applied for note in notes)
    assert {n.op for n in graph.nodes} <= {"Attention", "And", "Where"}
    shape = work_of(found).attention
    assert shape is not None
    assert (shape.batch, shape.heads, shape.kv_heads) == (s.batch, s.heads, s.heads // s.groups)
    assert (shape.q_len, shape.kv_len) == (s.q_len, s.kv_len)
    causal = ("where", "where_not", "add_inf", "add_min", "and_padding", "window")
    assert shape.causal == (s.mask in causal)
    assert shape.biased == (s.mask in ("padding", "and_padding", "bias"))
    if s.mask == "window" and s.kv_len - s.q_len >= 2:
        assert shape.window == 2
    assert found.attrs["scale"] == pytest.approx(1.0 if s.scale_on == "none" else 0.3)


PLAIN = Spelling("scores", "none", False, "transpose", 1, True, 3, 5, 1, 2)


def changed(change: object) -> onnx.ModelProto:
    proto = attention_model(PLAIN)
    assert callable(change)
    change(proto)
    return proto


def _scores_are_output(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(onnx.helper.make_tensor_value_info("scaled", TensorProto.FLOAT, None))


def _probabilities_read_elsewhere(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(node("ReduceMax", ["soft"], ["peak"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("peak", TensorProto.FLOAT, None))


def _softmax_over_queries(proto: onnx.ModelProto) -> None:
    next(n for n in proto.graph.node if n.op_type == "Softmax").attribute[0].i = 2


def _mask_is_scaled(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(onnx.helper.make_tensor_value_info("b", TensorProto.FLOAT, (1, 2, 3, 5)))
    scale = next(n for n in proto.graph.node if n.op_type == "Mul")
    index = list(proto.graph.node).index(scale)
    proto.graph.node.insert(index, node("Add", ["scores", "b"], ["biased"]))
    scale.input[:] = ["scale", "biased"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_scores_are_output, "'scaled' inside the attention is also read elsewhere"),
        (_probabilities_read_elsewhere, "'soft' inside the attention is also read elsewhere"),
        (_softmax_over_queries, "the softmax is over axis 2, not over the keys"),
        (_mask_is_scaled, "the mask 'b' is scaled after it was added"),
    ],
)
def test_near_miss_says_why_and_changes_nothing(tmp_path: Path, change: object, reason: str) -> None:
    raw = import_onnx(saved(changed(change), tmp_path), rewrites=False)
    graph, notes = standard(raw)
    assert "Attention" not in {n.op for n in graph.nodes}
    assert [n.reason for n in notes if n.rule == "attention" and not n.applied] == [reason]
    feeds = feeds_of(raw)
    before, after = interpret(raw, feeds), interpret(graph, feeds)
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, atol=1e-6)


@pytest.mark.parametrize("rank", [2, 3])
def test_attention_without_heads(tmp_path: Path, rank: int) -> None:
    lead = (2,) * (rank - 2)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=perm),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Add", ["s", "m"], ["sm"]),
        node("Softmax", ["sm"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["y"]),
    ]
    inputs = {"q": (*lead, 3, 4), "k": (*lead, 5, 4), "v": (*lead, 5, 6), "m": (*lead, 3, 5)}
    raw = import_onnx(saved(model(nodes, inputs, ["y"]), tmp_path), rewrites=False)
    graph, _ = standard(raw)
    assert "Attention" in {n.op for n in graph.nodes}
    feeds = feeds_of(raw)
    np.testing.assert_allclose(interpret(graph, feeds)["y"], interpret(raw, feeds)["y"], atol=1e-6)


def test_softcap_is_recovered(tmp_path: Path) -> None:
    """Gemma 2: scores = c tanh(scores / c)."""
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Mul", ["s", "scale"], ["s1"]),
        node("Div", ["s1", "cap"], ["s2"]),
        node("Tanh", ["s2"], ["s3"]),
        node("Mul", ["s3", "cap"], ["s4"]),
        node("Softmax", ["s4"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["y"]),
    ]
    weights = {"scale": np.float32(0.5), "cap": np.float32(2)}
    shape = (1, 2, 3, 4)
    proto = model(nodes, {"q": shape, "k": shape, "v": shape}, ["y"], weights)
    raw = import_onnx(saved(proto, tmp_path), rewrites=False)
    graph, _ = standard(raw)
    (only,) = graph.nodes
    assert (only.attrs["softcap"], only.attrs["scale"]) == (2.0, 0.5)
    feeds = feeds_of(raw)
    np.testing.assert_allclose(interpret(graph, feeds)["y"], interpret(raw, feeds)["y"], atol=1e-6)


@pytest.mark.parametrize("mask_first", [True, False])
def test_scores_regrouped_between_three_and_four_axes(tmp_path: Path, mask_first: bool) -> None:
    """BLOOM and DeBERTa: products over [batch * heads], a bias there, a mask on [batch, heads]."""
    b, h, s, t, d = 2, 3, 4, 5, 6
    nodes = [
        node("Reshape", ["q", "q3s"], ["q3"]),
        node("Reshape", ["k", "k3s"], ["k3"]),
        node("Reshape", ["v", "k3s"], ["v3"]),
        node("Transpose", ["k3"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q3", "kt"], ["s"]),
        node("Mul", ["s", "scale"], ["s1"]),
        node("Add", ["s1", "bias"], ["s2"]),
        node("Reshape", ["s2", "s4s"], ["s4"]),
        node("Where", ["pad", "s4", "low"] if mask_first else ["hide", "low", "s4"], ["s5"]),
        node("Softmax", ["s5"], ["p4"], axis=-1),
        node("Reshape", ["p4", "p3s"], ["p3"]),
        node("MatMul", ["p3", "v3"], ["y"]),
    ]
    weights = {
        "q3s": ints(b * h, s, d),
        "k3s": ints(b * h, t, d),
        "s4s": ints(b, h, s, t),
        "p3s": ints(b * h, s, t),
        "scale": np.float32(0.4),
        "low": np.float32(LOW),
    }
    mask = "pad" if mask_first else "hide"
    inputs = {"q": (b, h, s, d), "k": (b, h, t, d), "v": (b, h, t, d), "bias": (b * h, s, t)}
    inputs[mask] = (b, 1, 1, t)
    proto = model(nodes, inputs, ["y"], weights, types={mask: TensorProto.BOOL})
    raw = import_onnx(saved(proto, tmp_path), rewrites=False)
    graph, notes = standard(raw)
    assert all(note.applied for note in notes)
    (found,) = [n for n in graph.nodes if n.op == "Attention"]
    shape = work_of(found).attention
    assert shape is not None
    assert (shape.batch, shape.heads, shape.q_len, shape.kv_len, shape.head_dim) == (b, h, s, t, d)
    feeds = feeds_of(raw)
    feeds[mask] = np.zeros(feeds[mask].shape, bool)
    feeds[mask][..., 2 if mask_first else 1] = True
    np.testing.assert_allclose(interpret(graph, feeds)["y"], interpret(raw, feeds)["y"], atol=1e-6)
