"""tetrasim: how fast, how costly in energy, and how sure, when this transformer runs on that machine."""

__version__ = "0.1.0"
