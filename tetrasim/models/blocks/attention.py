"""Softmax attention (Vaswani et al., arXiv:1706.03762) with decoupled head_dim and grouped key/value heads
(Ainslie et al., arXiv:2305.13245), written as explicit products so that every exporter keeps its shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tetrasim.models.blocks.rotary import rotate
from tetrasim.models.config import ModelConfig

KeyValue = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """x [batch, seq, width] -> the same shape, and this layer's keys and values
    [batch, kv_heads, past + seq, head_dim]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.widths = [self.heads * self.head_dim, *([self.kv_heads * self.head_dim] * 2)]
        bias = config.attention_bias
        if config.fused_qkv:
            self.qkv = nn.Linear(config.width, sum(self.widths), bias=bias)
        else:
            self.query = nn.Linear(config.width, self.widths[0], bias=bias)
            self.key = nn.Linear(config.width, self.widths[1], bias=bias)
            self.value = nn.Linear(config.width, self.widths[2], bias=bias)
        self.fused = config.fused_qkv
        self.output = nn.Linear(self.widths[0], config.width, bias=bias)

    def forward(
        self, x: Tensor, past: KeyValue | None, mask: Tensor | None, rotary: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, KeyValue]:
        """`mask` [seq, seq] is True where a key may be seen; None sees all (also the one-token step)."""
        batch, seq, _ = x.shape
        q, k, v = (
            self.qkv(x).split(self.widths, -1) if self.fused else (self.query(x), self.key(x), self.value(x))
        )
        q = q.reshape(batch, seq, self.heads, self.head_dim).transpose(1, 2)
        k = k.reshape(batch, seq, self.kv_heads, self.head_dim).transpose(1, 2)
        v = v.reshape(batch, seq, self.kv_heads, self.head_dim).transpose(1, 2)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        scores = torch.matmul(q, self._repeat(k).transpose(2, 3)) * self.head_dim**-0.5
        if mask is not None:
            scores = torch.where(mask, scores, float("-inf"))
        mixed = torch.matmul(scores.softmax(-1), self._repeat(v))
        return self.output(mixed.transpose(1, 2).reshape(batch, seq, self.widths[0])), (k, v)

    def _repeat(self, x: Tensor) -> Tensor:
        """Each key/value head once per query head of its group."""
        if self.heads == self.kv_heads:
            return x
        batch, _, seq, _ = x.shape
        groups = self.heads // self.kv_heads
        wide = x[:, :, None].expand(batch, self.kv_heads, groups, seq, self.head_dim)
        return wide.reshape(batch, self.heads, seq, self.head_dim)
