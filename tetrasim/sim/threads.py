"""Small products on one thread.

Threaded BLAS waits for all its threads after every product. On products of a few million multiplications
that wait is longer than the work, and when other processes use the cores it grows without bound (measured:
GPT-2 small over 16 tokens in numpy 0.12 s on one thread, 4.4 s on four threads of a busy machine).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run the block with one thread in BLAS (numpy) and OpenMP (torch), whichever are loaded."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
