"""The models: a stack of blocks between an embedding and a head, in torch.

A decoder's `forward` serves both phases. Prefill: no past, causal mask, logits of the last token only (the
one that generation needs). Step: one token, past keys and values as inputs, present ones as outputs; its
position is an input, so that prefill and steps reproduce the full forward exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tetrasim.models.blocks.attention import Attention, KeyValue
from tetrasim.models.blocks.embedding import TokenEmbedding, make_embedding
from tetrasim.models.blocks.ffn import FeedForward
from tetrasim.models.blocks.head import ClassifierHead, PoolerHead
from tetrasim.models.blocks.norm import make_norm
from tetrasim.models.blocks.rotary import rotary_table
from tetrasim.models.config import Classifier, LmHead, ModelConfig, Tokens


class Block(nn.Module):
    """Attention and feed-forward with residuals: norm first (GPT-2, Llama) or after (BERT)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = make_norm(config), make_norm(config)
        self.attention, self.ffn = Attention(config), FeedForward(config)
        self.norm_first, self.nested = config.norm_first, config.residual == "nested"

    def forward(
        self, x: Tensor, past: KeyValue | None, mask: Tensor | None, rotary: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, KeyValue]:
        """x [batch, seq, width] -> the same shape, and the layer's keys and values."""
        if not self.norm_first:
            mixed, present = self.attention(x, past, mask, rotary)
            x = self.attention_norm(x + mixed)
            return self.ffn_norm(x + self.ffn(x)), present
        mixed, present = self.attention(self.attention_norm(x), past, mask, rotary)
        if self.nested:
            return x + (mixed + self.ffn(self.ffn_norm(mixed))), present
        x = x + mixed
        return x + self.ffn(self.ffn_norm(x)), present


class Decoder(nn.Module):
    """Token ids and positions to logits and the keys and values of every layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert isinstance(config.input, Tokens)
        assert isinstance(config.head, LmHead)
        self.config = config
        self.embedding = TokenEmbedding(config, config.input)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = make_norm(config) if config.final_norm else None
        self.head = nn.Linear(config.width, config.input.vocab, bias=False)
        self.tied = config.head.tied
        self.tie()
        self.last_only = True

    def tie(self) -> None:
        """Let the head share the embedding table, where the model does; again after loading weights."""
        if self.tied:
            self.head.weight = self.embedding.token.weight

    def forward(
        self, input_ids: Tensor, position: Tensor, past: list[Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """input_ids [batch, seq], position [seq], past: key and value per layer, flat, or None.

        Returns logits [batch, 1, vocab] (all tokens when `last_only` is off), then key and value per layer.
        """
        seq = input_ids.shape[1]
        x = self.embedding(input_ids, position)
        rotary = None
        if self.config.positions == "rotary":
            rotary = rotary_table(position, self.config.head_dim, self.config.rope_theta)
        mask = None
        if past is None:
            index = torch.arange(seq, device=input_ids.device)
            mask = index[:, None] >= index[None, :]
        presents: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            before = None if past is None else (past[2 * i], past[2 * i + 1])
            x, present = block(x, before, mask, rotary)
            presents.extend(present)
        if self.last_only and past is None:
            x = x[:, -1:]
        if self.norm is not None:
            x = self.norm(x)
        return self.head(x), *presents


class Encoder(nn.Module):
    """Tokens, patches or features to the head's outputs; every token sees every token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = make_embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = make_norm(config) if config.final_norm else None
        head = config.head
        self.head = ClassifierHead(config, head) if isinstance(head, Classifier) else PoolerHead(config)

    def forward(
        self, data: Tensor, position: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """`data`: input_ids [batch, seq] (with position [seq] and, for BERT, segment_ids), pixels
        [batch, channels, image, image], or features [batch, tokens, features]."""
        extra = [value for value in (position, segment_ids) if value is not None]
        x = self.embedding(data, *extra)
        rotary = None
        if self.config.positions == "rotary":
            position = torch.arange(x.shape[1], device=x.device)
            rotary = rotary_table(position, self.config.head_dim, self.config.rope_theta)
        for done, block in enumerate(self.blocks, start=1):
            x, _ = block(x, None, None, rotary)
            if done == self.config.merge_after:
                group = self.config.merge_size
                x = x.reshape(x.shape[0], x.shape[1] // group, group, x.shape[2]).mean(2)
                rotary = None if rotary is None else (rotary[0][::group], rotary[1][::group])
        out: Tensor | tuple[Tensor, Tensor] = self.head(x if self.norm is None else self.norm(x))
        return out


def build(config: ModelConfig, *, device: str = "meta") -> Decoder | Encoder:
    """The module in evaluation mode. On the default meta device it holds shapes only, of any size."""
    with torch.device(device):
        module = Decoder(config) if config.architecture == "decoder" else Encoder(config)
    return module.eval()
