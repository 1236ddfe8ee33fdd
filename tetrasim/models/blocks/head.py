"""Heads: classifier and BERT's pooler. A language model's head is a plain linear layer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from tetrasim.models.blocks.ffn import activate
from tetrasim.models.config import Classifier, ModelConfig

_POOL: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda x: x[:, 0],
    "mean": lambda x: x.mean(1),
    "flatten": lambda x: x.flatten(1),
}


class ClassifierHead(nn.Module):
    """[batch, tokens, width] -> [batch, classes]."""

    def __init__(self, config: ModelConfig, head: Classifier) -> None:
        super().__init__()
        features = head.token_width or config.width
        self.token = nn.Linear(config.width, features) if head.token_width else None
        if head.pool == "flatten":
            features *= config.final_tokens
        widths = (features, *head.hidden, head.classes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        if self.token is not None:
            x = activate(self.head.activation, self.token(x))
        x = _POOL[self.head.pool](x)
        for layer in self.layers[:-1]:
            x = activate(self.head.activation, layer(x))
        x = self.layers[-1](x)
        if self.head.output == "softmax":
            return x.softmax(-1)
        return x.sigmoid() if self.head.output == "sigmoid" else x


class PoolerHead(nn.Module):
    """[batch, tokens, width] -> the same, and tanh(dense(first token)) [batch, width]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.dense(x[:, 0]).tanh()
