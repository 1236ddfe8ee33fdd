"""Feed-forward layers: dense, and gated (Shazeer, arXiv:2002.05202)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tetrasim.models.config import ModelConfig


def activate(name: str, x: Tensor) -> Tensor:
    """relu, gelu (erf), gelu_tanh or silu."""
    if name == "relu":
        return functional.relu(x)
    if name == "silu":
        return functional.silu(x)
    return functional.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


class FeedForward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, hidden, bias = config.width, config.ffn_width, config.ffn_bias
        self.up = nn.Linear(width, hidden, bias=bias)
        self.gate = nn.Linear(width, hidden, bias=bias) if config.gated else None
        self.down = nn.Linear(hidden, width, bias=bias)
        self.activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            hidden = activate(self.activation, self.up(x))
        else:
            hidden = activate(self.activation, self.gate(x)) * self.up(x)
        out: Tensor = self.down(hidden)
        return out
