"""Presets have the published parameter counts, and the closed form equals what torch allocates."""

from __future__ import annotations

import pytest

from tetrasim.models.config import ModelConfig
from tetrasim.models.parameters import count_parameters
from tetrasim.models.transformer import build
from tetrasim.models.zoo import preset, preset_names

ASKED_FOR = {
    *(f"gpt{n}-{size}" for n in (2, 3) for size in ("small", "medium", "large", "xl")),
    *("bert-base", "bert-large", "vit-b16", "deit-ti", "deit-s", "llama2-7b", "llama2-13b", "llama2-70b"),
    *("jet-btag", "car-engine", "ligo", "patchtst-small", "digits-tiny"),
}
# Counts that papers round: GPT-3's table says 350 M and 1.3 B.
ROUNDED = {"gpt3-medium": 0.02, "gpt3-xl": 0.013}


def test_every_model_asked_for_is_a_preset() -> None:
    assert set(preset_names()) >= ASKED_FOR


@pytest.mark.parametrize("name", preset_names())
def test_count_is_torchs_and_the_published_one(name: str) -> None:
    config = preset(name)
    count = count_parameters(config).total
    assert count == sum(p.numel() for p in build(config).parameters())
    if config.published_parameters is not None:
        assert count == pytest.approx(config.published_parameters, rel=ROUNDED.get(name, 0.002))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2-small", 124_439_808),
        ("jet-btag", 9_135),
        ("bert-base", 109_482_240),
        ("vit-b16", 86_567_656),
        ("llama2-7b", 6_738_415_616),
        ("llama2-70b", 68_976_648_192),
    ],
)
def test_exact_counts(name: str, count: int) -> None:
    assert count_parameters(preset(name)).total == count


def test_merging_tokens_halves_what_the_head_reads() -> None:
    config = preset("jet-btag").replace(input={**preset("jet-btag").input.model_dump(), "tokens": 16})
    merged = config.replace(merge_after=2)
    assert merged.final_tokens == 8
    assert count_parameters(config).total - count_parameters(merged).total == 8 * 6 * 32
    assert count_parameters(merged).total == sum(p.numel() for p in build(merged).parameters())
    quarter = config.replace(merge_after=2, merge_size=4)
    assert quarter.final_tokens == 4
    assert count_parameters(quarter).total == sum(p.numel() for p in build(quarter).parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 1, "kv_heads": 3},
        {"gated": True, "ffn_bias": False, "norm": "rms"},
        {"positions": "rotary", "attention_bias": False, "head_dim": 10, "fused_qkv": False},
        {"head": {"kind": "lm", "tied": False}, "final_norm": False, "embedding_norm": True},
    ],
)
def test_closed_form_holds_for_any_knob(changes: dict[str, object]) -> None:
    small = preset("gpt2-small").replace(width=48, heads=6, layers=2, ffn_width=96, context=20)
    config: ModelConfig = small.replace(**changes)
    assert count_parameters(config).total == sum(p.numel() for p in build(config).parameters())
