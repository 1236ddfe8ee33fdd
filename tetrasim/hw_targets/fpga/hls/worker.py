"""Runs a compiled project on inputs, in a process of its own: `python -m … worker LIBRARY INPUTS.npz
OUTPUTS.npy`.

A wrong reuse factor aborts the process that predicts, so the caller never predicts itself. Limits on memory
are set
before the library is loaded; only ctypes and numpy are needed, and no hls4ml.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np


def main(arguments: list[str]) -> int:
    """LIBRARY INPUTS.npz (arr_0, arr_1, …) OUTPUTS.npy TOP SIZES (of the outputs, separated by commas)."""
    library, inputs, outputs, top, sizes = arguments
    with np.load(inputs, allow_pickle=False) as file:
        arrays = [
            np.ascontiguousarray(file[key], np.float64)
            for key in sorted(file.files, key=lambda k: int(k[4:]))
        ]
    count = [int(n) for n in sizes.split(",")]
    function = getattr(ctypes.CDLL(library), f"{top}_double")
    pointer = ctypes.POINTER(ctypes.c_double)
    result = np.zeros((len(arrays[0]), sum(count)))
    for row in range(len(result)):
        given = [a[row].ctypes.data_as(pointer) for a in arrays]
        starts = np.cumsum([0, *count])[:-1]
        made = [result[row, s:].ctypes.data_as(pointer) for s in starts]
        function(*given, *made)
    np.save(Path(outputs), result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
