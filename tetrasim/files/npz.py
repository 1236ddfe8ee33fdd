"""Archives of arrays (`.npz`), read without pickle and never larger than they may be.

An archive of a kilobyte may claim or unpack to terabytes: sizes are summed from its directory, and every
array's header is compared with the bytes that follow it, before anything is allocated.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.files.read import mistake_of
from tetrasim.files.write import make_parents, write_file

MAX_BYTES = 4 << 30  # of all arrays together


def read_npz(file: Path, most: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays by name.

    Raises:
        UserError: no archive, damaged, larger than `most` bytes, or of something else than numbers.
    """
    where, hint = str(file), "write it with numpy.savez"
    if not file.is_file():
        raise UserError("there is no such file", where=where, hint="check the path")
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                raise UserError(
                    f"its arrays take more than {most >> 20} MB", where=where, hint="give fewer samples"
                )
            return {m.filename.removesuffix(".npy"): _array(archive, m) for m in archive.infolist()}
    except OSError as failure:
        raise mistake_of(failure, "cannot read the archive", file) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as failure:
        raise UserError(
            f"no archive of arrays: {str(failure).splitlines()[0]}", where=where, hint=hint
        ) from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read_header:
            raise ValueError(f"array '{name}' is of an unknown version")
        shape, fortran, dtype = read_header[version](stream)
        if dtype.hasobject or dtype.names is not None or dtype.kind not in "biuf":
            raise ValueError(f"array '{name}' holds no numbers")
        promised = math.prod(shape) * dtype.itemsize
        if promised > member.file_size:
            raise ValueError(f"array '{name}' claims {promised} bytes and has {member.file_size}")
        data = stream.read()  # to the end: the checksum of the archive is compared there
    if len(data) != promised:
        raise ValueError(f"array '{name}' claims {promised} bytes and has {len(data)}")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def write_npz(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an archive, whole or not at all.

    Raises:
        UserError: the place cannot be written.
    """
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    make_parents(file)
    write_file(file, stream.getvalue())
