"""Attention masks: from values to structure (`ops/mask.py`)."""

from tetrasim.sim.passes.masks.reading import Reading, both, read_mask

__all__ = ["Reading", "both", "read_mask"]
