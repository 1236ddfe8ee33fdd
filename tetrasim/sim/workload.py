"""What is run: batch, prompt, generated tokens, and the dims that a model leaves open.

An encoder (BERT, ViT, the jet tagger) runs its forward graph once; `prompt` is its sequence length where
the model has one. A decoder runs its prefill graph over `prompt` tokens, which yields the first generated
token, and then its step graph `generate - 1` times, at context lengths prompt, prompt + 1, … (keys already
cached before the step).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    """All counts are per run. Of a user's ONNX file, `dims` binds further symbolic dims, `values` are those
    of inputs that decide the graph (a sampling rate, a flag), and `rows` is how many are expected where the
    data decide a shape."""

    batch: int = 1
    prompt: int = 32
    generate: int = 0
    dims: tuple[tuple[str, int], ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    rows: tuple[tuple[str, int], ...] = ()

    def contexts(self, *, prefilled: bool = True) -> range:
        """Cached keys before each step: one entry per step graph run. Without a prefill graph every generated
        token is a step, the first one too."""
        return range(self.prompt, self.prompt + max(self.generate - prefilled, 0))
