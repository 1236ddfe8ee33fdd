"""Which tiles the libraries have kernels for.

Tensor-core tiles are those of the CUTLASS and cuBLAS kernel lists per instruction (names that profilers show,
from memory). SIMT (float32) tiles are the cuBLAS
kernels that NeuSight's profiles name, per architecture, for constant weights ("tn" layouts) and for batched
products of activations ("nn" layouts): `ampere_sgemm_128x64_tn` computes 128 output columns of 64 rows,
since cuBLAS is column-major. Source: sitar-lab/NeuSight (MIT), kernel column of the matmul data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# fmt: off
# Kernels of Ampere and before (mma.sync), which Ada runs too: s16816gemm and wmma kernels of cuBLAS.
_MMA_TILES = (
    (256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (256, 64), (64, 256), (32, 32),
    (16, 16),
)
# Hopper and later (wgmma): cuBLAS has tiles in steps of 32 and below.
_WGMMA_TILES = (
    *_MMA_TILES[:-1], (192, 128), (128, 192), (32, 64), (64, 32), (16, 64), (64, 16), (32, 128), (128, 32),
    (16, 128), (128, 16), (64, 192), (192, 64), (64, 96), (96, 64), (128, 96), (96, 128), (256, 96),
    (96, 256), (128, 160), (160, 128), (256, 192), (192, 256),
)
_WGMMA = ("hopper", "blackwell")
# columns x rows, as the kernel names have them
_WEIGHTS = {
    "volta": ((128, 64), (128, 128), (32, 128), (128, 32), (64, 32), (32, 32)),
    "turing": ((128, 128), (128, 64), (64, 64), (32, 128), (128, 32), (64, 32), (32, 32)),
    "ampere": ((128, 64), (32, 32), (128, 32), (32, 128), (64, 32), (128, 128), (64, 64)),
    "ada": ((128, 64), (128, 128), (128, 256), (256, 128), (64, 64), (64, 32)),
    "hopper": ((128, 128), (64, 64), (256, 64), (128, 64), (128, 256), (64, 128), (256, 128), (32, 32)),
}
_BATCHED = {
    "volta": ((64, 64), (32, 128), (128, 32)),
    "turing": ((128, 64), (64, 64), (128, 32), (32, 128)),
    "ampere": ((128, 128),),
    "ada": ((128, 128),),
    "hopper": (
        (128, 128), (64, 64), (256, 128), (64, 128), (128, 32), (32, 32), (128, 64), (64, 256), (256, 64),
    ),
}
# fmt: on


def tensor_tiles(architecture: str) -> NDArray[np.int64]:
    """Rows x columns of the tensor-core kernels' tiles; an unknown architecture gets those of mma.sync."""
    return np.array(_WGMMA_TILES if architecture in _WGMMA else _MMA_TILES, dtype=np.int64)


def simt_tiles(architecture: str, batched: bool) -> NDArray[np.int64]:
    """Rows x columns of the float32 kernels' tiles; an unknown architecture gets Ampere's."""
    kernels = _BATCHED if batched else _WEIGHTS
    return np.array([(rows, columns) for columns, rows in kernels.get(architecture, kernels["ampere"])])
