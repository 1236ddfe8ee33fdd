"""Parameter counts in closed form, checked against torch and against the published counts by tests.

A tied embedding counts once. Rotary tables and masks are computed, not stored, so they count zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.models.config import Classifier, LmHead, ModelConfig, Patches, Pooler, Tokens


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters by part; `layer` is one block."""

    embedding: int
    layer: int
    layers: int
    final_norm: int
    head: int

    @property
    def total(self) -> int:
        return self.embedding + self.layer * self.layers + self.final_norm + self.head


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Closed form of everything `transformer.build(config)` allocates."""
    return ParameterCount(
        _embedding(config),
        _attention(config) + _ffn(config) + 2 * _norm(config),
        config.layers,
        _norm(config) if config.final_norm else 0,
        _head(config),
    )


def _norm(config: ModelConfig) -> int:
    return {"layer": 2, "rms": 1, "none": 0}[config.norm] * config.width


def _dense(n_in: int, n_out: int, bias: bool = True) -> int:
    return n_in * n_out + (n_out if bias else 0)


def _attention(config: ModelConfig) -> int:
    d, c, bias = config.width, config.head_dim, config.attention_bias
    queries, keys = config.heads * c, config.kv_heads * c
    return _dense(d, queries, bias) + 2 * _dense(d, keys, bias) + _dense(queries, d, bias)


def _ffn(config: ModelConfig) -> int:
    d, f, bias = config.width, config.ffn_width, config.ffn_bias
    return (2 if config.gated else 1) * _dense(d, f, bias) + _dense(f, d, bias)


def _embedding(config: ModelConfig) -> int:
    d, source = config.width, config.input
    if isinstance(source, Tokens):
        count = (source.vocab + source.segments) * d
    elif isinstance(source, Patches):
        count = _dense(source.channels * source.patch**2, d) + (d if source.class_token else 0)
    else:
        count = _dense(source.features, d) if source.project else 0
    if config.positions == "learned":
        count += config.longest * d
    return count + (_norm(config) if config.embedding_norm else 0)


def _head(config: ModelConfig) -> int:
    d, head = config.width, config.head
    if isinstance(head, LmHead):
        assert isinstance(config.input, Tokens)
        return 0 if head.tied else config.input.vocab * d
    if isinstance(head, Pooler):
        return _dense(d, d)
    return _classifier(head, d, config.final_tokens)


def _classifier(head: Classifier, width: int, tokens: int) -> int:
    count, features = 0, width
    if head.token_width:
        count, features = _dense(width, head.token_width), head.token_width
    if head.pool == "flatten":
        features *= tokens
    for n_out in (*head.hidden, head.classes):
        count, features = count + _dense(features, n_out), n_out
    return count
