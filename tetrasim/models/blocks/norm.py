"""Layer norm (Ba et al., arXiv:1607.06450), RMS norm (Zhang & Sennrich, arXiv:1910.07467), or none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tetrasim.models.config import ModelConfig


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis, spelled out for the exporter."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm of `config` over its width."""
    if config.norm == "layer":
        return nn.LayerNorm(config.width, eps=config.norm_epsilon)
    if config.norm == "rms":
        return RMSNorm(config.width, config.norm_epsilon)
    return nn.Identity()
