"""Which tiles the libraries have kernels for.

Tensor-core tiles are those of the CUTLASS and cuBLAS kernel lists. SIMT (float32) tiles are the cuBLAS
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
TENSOR_TILES = np.array([
    (256, 128), (128, 256), (192, 128), (128, 192), (128, 128), (128, 64), (64, 128), (64, 64), (256, 64),
    (64, 256), (32, 64), (64, 32), (32, 32), (16, 64), (64, 16), (32, 128), (128, 32), (16, 128), (128, 16),
    (64, 192), (192, 64),
], dtype=np.int64)
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


def simt_tiles(architecture: str, batched: bool) -> NDArray[np.int64]:
    """Rows x columns of the float32 kernels' tiles; an unknown architecture gets Ampere's."""
    kernels = _BATCHED if batched else _WEIGHTS
    return np.array([(rows, columns) for columns, rows in kernels.get(architecture, kernels["ampere"])])
