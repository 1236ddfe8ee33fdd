"""What each phase of a model takes and gives: names, element types, symbolic shapes, state pairs.

A decoder has two graphs: `prefill` (dims batch, seq) and `step` (dims batch, past: one new token against
`past` cached keys). An encoder has one, `forward`. Generation is never an ONNX Loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.models.config import Classifier, ModelConfig, Patches, Tokens

Dim = int | str


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. `limit`: integer inputs are in [0, limit), 0 for floats.
    `counts_from`: the values are not free but count up from this dim (`"0"`: from zero): positions."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    limit: int = 0
    counts_from: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """One graph: `states` pairs each state input with the output that replaces it."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[tuple[str, str], ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbolic dims, in order of appearance."""
        return tuple(dict.fromkeys(d for port in self.inputs for d in port.shape if isinstance(d, str)))


def phases_of(config: ModelConfig) -> tuple[Phase, ...]:
    """The graphs of a model."""
    if config.architecture == "encoder":
        return (_forward(config),)
    return (_decoder(config, "prefill"), _decoder(config, "step"))


def _decoder(config: ModelConfig, name: str) -> Phase:
    assert isinstance(config.input, Tokens)
    step = name == "step"
    seq: Dim = 1 if step else "seq"
    inputs = [
        Port("input_ids", "int64", ("batch", seq), limit=config.input.vocab),
        Port("position", "int64", (seq,), limit=config.context, counts_from="past" if step else "0"),
    ]
    outputs = [Port("logits", "float32", ("batch", 1, config.input.vocab))]
    states: list[tuple[str, str]] = []
    after: Dim = "past + 1" if step else "seq"
    for i in range(config.layers):
        for kind in ("key", "value"):
            past, present = f"past_{kind}.{i}", f"present_{kind}.{i}"
            if step:
                inputs.append(Port(past, "float32", ("batch", config.kv_heads, "past", config.head_dim)))
                states.append((past, present))
            outputs.append(Port(present, "float32", ("batch", config.kv_heads, after, config.head_dim)))
    return Phase(name, tuple(inputs), tuple(outputs), tuple(states))


def _forward(config: ModelConfig) -> Phase:
    source, tokens = config.input, config.final_tokens or "seq"
    if isinstance(source, Tokens):
        inputs = [
            Port("input_ids", "int64", ("batch", "seq"), limit=source.vocab),
            Port("position", "int64", ("seq",), limit=config.context, counts_from="0"),
        ]
        if source.segments:
            inputs.append(Port("segment_ids", "int64", ("batch", "seq"), limit=source.segments))
    elif isinstance(source, Patches):
        inputs = [Port("pixels", "float32", ("batch", source.channels, source.image, source.image))]
    else:
        inputs = [Port("features", "float32", ("batch", source.tokens, source.features))]
    if isinstance(config.head, Classifier):
        name = "logits" if config.head.output == "none" else "probabilities"
        outputs = [Port(name, "float32", ("batch", config.head.classes))]
    else:
        outputs = [
            Port("last_hidden_state", "float32", ("batch", tokens, config.width)),
            Port("pooled", "float32", ("batch", config.width)),
        ]
    return Phase("forward", tuple(inputs), tuple(outputs))
