"""Torch building blocks: attention, feed-forward, norms, embeddings and heads.

Importing a module of this package imports torch; `tetrasim.models.transformer.build` is the door.
"""
