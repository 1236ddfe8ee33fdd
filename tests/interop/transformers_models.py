"""Tiny models of the `transformers` package, built from a config with random weights, and their export."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 0
VOCAB = 100
TOKENS = 7


@dataclass(frozen=True)
class Tiny:
    """A model and how to call it."""

    module: Any
    names: tuple[str, ...]
    inputs: tuple[Any, ...]


def _decoder(kind: str) -> Tiny:
    import torch
    import transformers as tf

    common = {
        "vocab_size": VOCAB,
        "use_cache": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    if kind == "gpt2":
        model = tf.GPT2LMHeadModel(tf.GPT2Config(n_positions=32, n_embd=32, n_layer=2, n_head=4, **common))
    elif kind == "llama":
        model = tf.LlamaForCausalLM(
            tf.LlamaConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                intermediate_size=64,
                max_position_embeddings=32,
                **common,
            )
        )
    else:
        model = tf.MambaForCausalLM(
            tf.MambaConfig(hidden_size=16, state_size=4, num_hidden_layers=2, **common)
        )
        return Tiny(model, ("input_ids",), (torch.randint(0, VOCAB, (1, TOKENS)),))
    ids = torch.randint(0, VOCAB, (1, TOKENS))
    return Tiny(model, ("input_ids", "attention_mask"), (ids, torch.ones(1, TOKENS, dtype=torch.int64)))


def _bert() -> Tiny:
    import torch
    import transformers as tf

    config = tf.BertConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    ids = torch.randint(0, VOCAB, (1, TOKENS))
    mask = torch.ones(1, TOKENS, dtype=torch.int64)
    return Tiny(tf.BertForMaskedLM(config), ("input_ids", "attention_mask"), (ids, mask))


def _vit() -> Tiny:
    import torch
    import transformers as tf

    config = tf.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_labels=5,
    )
    return Tiny(tf.ViTForImageClassification(config), ("pixel_values",), (torch.randn(1, 3, 16, 16),))


def _t5() -> Tiny:
    import torch
    import transformers as tf

    config = tf.T5Config(
        vocab_size=VOCAB,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        use_cache=False,
        decoder_start_token_id=0,
    )
    ids, later = torch.randint(0, VOCAB, (1, TOKENS)), torch.randint(0, VOCAB, (1, 5))
    return Tiny(tf.T5ForConditionalGeneration(config), ("input_ids", "decoder_input_ids"), (ids, later))


def _whisper() -> Tiny:
    import torch
    import transformers as tf

    config = tf.WhisperConfig(
        vocab_size=VOCAB,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=8,
        max_source_positions=20,
        max_target_positions=16,
        use_cache=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    sound, later = torch.randn(1, 8, 40), torch.randint(0, VOCAB, (1, 5))
    names = ("input_features", "decoder_input_ids")
    return Tiny(tf.WhisperForConditionalGeneration(config), names, (sound, later))


MAKERS: dict[str, Callable[[], Tiny]] = {
    "gpt2": lambda: _decoder("gpt2"),
    "llama": lambda: _decoder("llama"),
    "mamba": lambda: _decoder("mamba"),
    "bert": _bert,
    "vit": _vit,
    "t5": _t5,
    "whisper": _whisper,
}


def export(name: str, style: str, path: Path) -> None:
    """Write `name` to `path` by torch's dynamo exporter ("dynamo") or the older one ("torchscript")."""
    import torch

    torch.manual_seed(SEED)
    tiny = MAKERS[name]()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = tiny.module.eval()

        def forward(self, *args: Any) -> Any:
            return self.m(**dict(zip(tiny.names, args, strict=True))).logits

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(),
            tiny.inputs,
            str(path),
            dynamo=style == "dynamo",
            input_names=list(tiny.names),
            output_names=["logits"],
            opset_version=20 if style == "dynamo" else 17,
            **({"verbose": False} if style == "dynamo" else {}),
        )
