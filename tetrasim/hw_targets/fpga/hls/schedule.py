"""When a layer that moves elements reads and writes its rows: one static schedule for C++ and simulation.

Rows come in at a constant pace and leave at a constant pace, `lag` firings later. The lag is the smallest
one with which every element has arrived when its row leaves, so a slice passes on the fly, a convolution's
windows wait for a few lines and a transpose waits for the whole array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tetrasim.hw_targets.fpga.hls.plan import Ints


@dataclass(frozen=True, slots=True)
class Move:
    """Input row i is read in firing `i * read_every`, output row r written in `lag + r * write_every`."""

    read_every: int
    write_every: int
    lag: int
    firings: int


def move_schedule(index: Ints, rows_in: int, width_in: int, rows_out: int) -> Move:
    """The schedule of y[i] = x[index[i]] (-1: zero) between streams of `rows_in` and `rows_out` rows."""
    read_every = max(rows_out // rows_in, 1)
    write_every = max(rows_in // rows_out, 1)
    needed = (np.maximum(index, 0) // width_in).reshape(rows_out, -1).max(1) * read_every
    lag = max(int((needed - np.arange(rows_out) * write_every).max()), 0)
    firings = max((rows_in - 1) * read_every, lag + (rows_out - 1) * write_every) + 1
    return Move(read_every, write_every, lag, firings)


def join_schedule(
    index: Ints, shapes: tuple[tuple[int, int], tuple[int, int]], rows_out: int
) -> tuple[Move, Move]:
    """The schedules of both inputs ([rows, width] each) of a concatenation, with the same writes."""
    (rows_a, width_a), (rows_b, width_b) = shapes
    size_a = rows_a * width_a
    at = index.reshape(-1)
    made = [
        move_schedule(np.where(at < size_a, at, -1), rows_a, width_a, rows_out),
        move_schedule(np.where(at >= size_a, at - size_a, -1), rows_b, width_b, rows_out),
    ]
    every = max(m.write_every for m in made)
    lag = max(m.lag for m in made)
    last = max((r - 1) * m.read_every for r, m in zip((rows_a, rows_b), made, strict=True))
    firings = max(last, lag + (rows_out - 1) * every) + 1
    first, second = (Move(m.read_every, every, lag, firings) for m in made)
    return first, second
