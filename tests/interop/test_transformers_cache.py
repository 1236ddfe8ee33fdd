"""A `transformers` decoder step with its key/value cache as inputs and outputs: states, appends, family."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from tetrasim.frontend.onnx import import_family, import_onnx, symbolic_dims
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of

pytest.importorskip("transformers")

LAYERS = 2
STATES = [f"{i}.{part}" for i in range(LAYERS) for part in ("key", "value")]


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama's step graph by the dynamo exporter, cache length symbolic."""
    import torch
    import transformers as tf
    from transformers.cache_utils import DynamicCache

    torch.manual_seed(0)
    config = tf.LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    model = tf.LlamaForCausalLM(config).eval()

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, position_ids, *past):  # type: ignore[no-untyped-def]
            cache = DynamicCache([(past[2 * i], past[2 * i + 1]) for i in range(LAYERS)])
            out = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            rows = out.past_key_values.layers
            return (out.logits, *(t for row in rows for t in (row.keys, row.values)))

    path = tmp_path_factory.mktemp("cache") / "step.onnx"
    past = 6
    args = (
        torch.zeros(1, 1, dtype=torch.int64),
        torch.ones(1, past + 1, dtype=torch.int64),
        torch.tensor([[past]]),
        *(torch.randn(1, 2, past, 8) for _ in STATES),
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Step(),
            args,
            str(path),
            dynamo=True,
            verbose=False,
            opset_version=20,
            input_names=[
                "input_ids",
                "attention_mask",
                "position_ids",
                *(f"past_key_values.{s}" for s in STATES),
            ],
            output_names=["logits", *(f"present.{s}" for s in STATES)],
            dynamic_shapes=({}, {1: "total"}, {}, tuple({2: "past"} for _ in STATES)),
        )
    return path


def test_step_agrees_with_onnxruntime_at_several_lengths(step: Path) -> None:
    import onnxruntime as ort

    ort.set_default_logger_severity(3)
    session = ort.InferenceSession(str(step), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    rng = np.random.default_rng(0)
    assert set(symbolic_dims(step)) == {"past", "total"}
    for past in (5, 11):
        graph = import_onnx(step, {"past": past, "total": past + 1})
        feeds: dict[str, np.ndarray] = {
            "input_ids": np.array([[7]]),
            "attention_mask": np.ones((1, past + 1), np.int64),
            "position_ids": np.array([[past]]),
        }
        for state in graph.states:
            feeds[state.before.name] = rng.standard_normal(state.before.type.shape).astype(np.float32)
        expected = dict(zip(names, session.run(names, feeds), strict=True))
        for name, actual in interpret(graph, feeds).items():
            assert np.abs(actual - expected[name]).max() < 1e-5


def test_cache_is_state_and_family_covers_every_length(step: Path) -> None:
    family = import_family(step, {"total": "past + 1"}, symbol="past", contexts=range(4, 30))
    graph = family.at(21)
    assert graph.dims == (("past", 21),)
    alone = import_onnx(step, {"total": 22, "past": 21})
    assert graph.to_text().splitlines()[1:] == alone.to_text().splitlines()[1:]
    assert [(s.before.name, s.after.name) for s in graph.states] == [
        (f"past_key_values.{s}", f"present.{s}") for s in STATES
    ]
    ops = [n.op for n in graph.nodes]
    assert (ops.count("KVAppend"), ops.count("Attention"), ops.count("RotaryEmbedding")) == (4, 2, 4)
    for node in graph.nodes:
        if node.op == "Attention":
            shape = work_of(node).attention
            assert shape is not None
            assert (shape.q_len, shape.kv_len, shape.heads, shape.kv_heads) == (1, 22, 4, 2)
            assert all(v is not None and v.role is Role.STATE for v in node.inputs[1:3])
