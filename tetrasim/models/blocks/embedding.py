"""Embeddings of tokens, image patches and feature vectors, with learned positions if the model has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tetrasim.models.blocks.norm import make_norm
from tetrasim.models.config import Features, ModelConfig, Patches, Tokens


class TokenEmbedding(nn.Module):
    """input_ids [batch, seq], position [seq], segment_ids [batch, seq] or None -> [batch, seq, width]."""

    def __init__(self, config: ModelConfig, source: Tokens) -> None:
        super().__init__()
        self.token = nn.Embedding(source.vocab, config.width)
        self.position = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.segment = nn.Embedding(source.segments, config.width) if source.segments else None
        self.norm = make_norm(config) if config.embedding_norm else None

    def forward(self, input_ids: Tensor, position: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        x: Tensor = self.token(input_ids)
        if self.segment is not None:
            x = x + self.segment(segment_ids)
        if self.position is not None:
            x = x + self.position(position)
        if self.norm is not None:
            x = self.norm(x)
        return x


class PatchEmbedding(nn.Module):
    """pixels [batch, channels, image, image] -> [batch, tokens, width] (arXiv:2010.11929)."""

    def __init__(self, config: ModelConfig, source: Patches) -> None:
        super().__init__()
        self.patch = nn.Conv2d(source.channels, config.width, source.patch, stride=source.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width)) if source.class_token else None
        self.position = _table(config)

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.patch(pixels).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat((self.class_token.expand(x.shape[0], -1, -1), x), 1)
        return x if self.position is None else x + self.position


class FeatureEmbedding(nn.Module):
    """features [batch, tokens, features] -> [batch, tokens, width]."""

    def __init__(self, config: ModelConfig, source: Features) -> None:
        super().__init__()
        self.project = nn.Linear(source.features, config.width) if source.project else None
        self.position = _table(config)

    def forward(self, features: Tensor) -> Tensor:
        x = features if self.project is None else self.project(features)
        return x if self.position is None else x + self.position


def _table(config: ModelConfig) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(config.longest, config.width)) if config.positions == "learned" else None


def make_embedding(config: ModelConfig) -> nn.Module:
    """The embedding that `config.input` asks for."""
    if isinstance(config.input, Tokens):
        return TokenEmbedding(config, config.input)
    if isinstance(config.input, Patches):
        return PatchEmbedding(config, config.input)
    return FeatureEmbedding(config, config.input)
