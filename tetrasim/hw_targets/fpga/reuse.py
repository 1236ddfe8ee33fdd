"""Reuse factors that hls4ml's dense kernels accept, and the nearest one to a wish.

A reuse factor R shares each multiplier R times per row. The Resource kernel walks its weights in blocks, so
R must
tile the inputs and outputs (hls4ml 1.3, FPGABackend._validate_reuse_factor); a factor of 4 on 6 inputs
becomes 3, as in
the published transformer firmware.
"""

from __future__ import annotations

from functools import lru_cache


def valid_reuse(n_in: int, n_out: int, reuse: int) -> bool:
    """hls4ml's rule for a dense layer of `n_in` x `n_out` weights."""
    block = -(-(n_in * n_out) // min(n_in, reuse))
    fits = block % n_out == 0 or reuse >= n_in
    fits = fits and (reuse % n_in == 0 or reuse < n_in)
    return fits and (n_in * n_out) % reuse == 0


@lru_cache(maxsize=1 << 14)
def nearest_reuse(n_in: int, n_out: int, wanted: int, *, below_inputs: bool = False) -> int:
    """The valid factor nearest to `wanted`; of two equally near the smaller. `below_inputs`: only factors
    below
    n_in, because hls4ml 1.3 does not compile the kernel for larger ones."""
    top = n_in - 1 if below_inputs else n_in * n_out
    down = next((r for r in range(min(wanted, top), 0, -1) if valid_reuse(n_in, n_out, r)), 1)
    up = next(
        (r for r in range(wanted + 1, min(2 * wanted - down, top) + 1) if valid_reuse(n_in, n_out, r)), 0
    )
    return up if up and up - wanted < wanted - down else down


def divisor(products: int, wanted: int) -> int:
    """The largest divisor of `products` up to `wanted`: every cycle of a shared multiplier is full."""
    top = min(wanted, max(products, 1))
    while products % top:
        top -= 1
    return top
