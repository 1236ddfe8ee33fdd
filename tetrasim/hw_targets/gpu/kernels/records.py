"""Rows of a dataclass of numbers as a structured array, which compiled loops read and write by field name.

To a type checker a row is the dataclass; to numba it is a record. The order of the fields does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RowT = TypeVar("RowT")
RowT_co = TypeVar("RowT_co", covariant=True)
_NUMBERS = {"float": np.float64, "int": np.int64}


class Records(Protocol[RowT_co]):
    """Rows of type `RowT_co`; `column` and `picked` read it outside compiled loops."""

    def __getitem__(self, row: int, /) -> RowT_co: ...

    def __len__(self) -> int: ...


def field_names(kind: type[RowT]) -> tuple[str, ...]:
    """The fields of a row, in the order of the dataclass."""
    return tuple(f.name for f in fields(cast("Any", kind)))


def empty(kind: type[RowT], rows: int) -> Records[RowT]:
    """`rows` rows of zeros; every field of `kind` is a float or an int."""
    dtype = np.dtype([(f.name, _NUMBERS[str(f.type)]) for f in fields(cast("Any", kind))])
    return cast("Records[RowT]", np.zeros(rows, dtype))


def records(kind: type[RowT], rows: Sequence[RowT]) -> Records[RowT]:
    """The rows as records."""
    out = empty(kind, len(rows))
    for name in field_names(kind):
        array(out)[name] = [getattr(row, name) for row in rows]
    return out


def array(rows: Records[object]) -> NDArray[Any]:
    """The structured array behind the rows."""
    return cast("NDArray[Any]", rows)


def column(rows: Records[object], name: str) -> NDArray[np.float64]:
    """One field of all rows, as floats; a view where the field is a float."""
    return np.asarray(array(rows)[name], dtype=np.float64)


def put(into: Records[RowT], at: NDArray[np.int64], rows: Records[RowT]) -> None:
    """Write rows at some places of others."""
    array(into)[at] = array(rows)


def row(kind: type[RowT], rows: Records[object], at: int) -> RowT:
    """One row as an object of its class."""
    values = array(rows)[at]
    return kind(**{name: values[name].item() for name in field_names(kind)})
