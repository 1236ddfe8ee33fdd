"""Rotary positions (Su et al., arXiv:2104.09864), in the half-split layout of the Llama checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_table(position: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position * theta^(-2i/head_dim): two arrays [seq, head_dim], halves repeated."""
    index = torch.arange(0, head_dim, 2, dtype=torch.float32, device=position.device)
    frequency = 1.0 / (theta ** (index / head_dim))
    angle = position[:, None].to(torch.float32) * frequency[None, :]
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate x [batch, heads, seq, head_dim] by the table's angles."""
    cos, sin = table
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin
