"""Reading ONNX files that nobody vouches for.

The protobuf is parsed without its external data; weights stay on disk and are memory-mapped when asked
for. External-data paths must stay inside the model's own folder (no absolute path, no `..`, no symbolic
link that leads out), and every promised byte must be there. A file that declares its weights absent
(metadata property `tetrasim.weights` = `absent`) has types and shapes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.files.read import inside
from tetrasim.frontend.onnx.element_types import onnx_type, unpacked
from tetrasim.frontend.onnx.functions import inlined
from tetrasim.frontend.onnx.order import sort_nodes
from tetrasim.sim.ir.graph import TensorType
from tetrasim.sim.ops.dtypes import numpy_dtype

if TYPE_CHECKING:
    import onnx

WEIGHTS_KEY = "tetrasim.weights"
WEIGHTS_ABSENT = "absent"
MAX_PROTO_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class ExternalData:
    """Numbers of an initializer in a side file, mapped when asked for."""

    path: Path
    offset: int
    nbytes: int
    type: TensorType
    code: int  # ONNX's element type

    def load(self) -> NDArray[Any]:
        """The tensor in the interpreter's format."""
        raw = np.memmap(self.path, dtype=np.uint8, mode="r", offset=self.offset, shape=(self.nbytes,))
        return carried(unpacked(raw, self.code, self.type.shape), self.type)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedData:
    """Numbers inside the protobuf, decoded when asked for."""

    proto: Any
    type: TensorType

    def load(self) -> NDArray[Any]:
        """The tensor in the interpreter's format."""
        return carried(proto_array(self.proto), self.type)


def carried(array: NDArray[Any], type: TensorType) -> NDArray[Any]:
    """`array` in the element format the interpreter carries for `type`."""
    wanted = numpy_dtype(type)
    return array if array.dtype == wanted else array.astype(wanted)


def proto_array(proto: onnx.TensorProto) -> NDArray[Any]:
    """The numbers of a tensor that is stored in the protobuf itself.

    Raises:
        UserError: sizes and format contradict each other.
    """
    from onnx import numpy_helper

    if is_external(proto):
        raise UserError(
            f"the numbers of tensor '{proto.name}' lie in a side file: only initializers may",
            hint="save the model with its constants inside",
        )
    try:
        return np.asarray(numpy_helper.to_array(proto))
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"tensor '{proto.name}' is damaged: {error}") from error


def read_model(path: Path) -> onnx.ModelProto:
    """Parse `path`; local functions are inlined, nodes brought into order.

    Raises:
        UserError: no such file, not ONNX, truncated, empty, cyclic, or larger than protobuf allows.
    """

    where = str(path)
    if path.is_dir():
        raise UserError("this is a folder, not an ONNX file", where=where, hint="name the .onnx file in it")
    if not path.is_file():
        raise UserError("there is no such file", where=where, hint="check the path")
    if path.stat().st_size > MAX_PROTO_BYTES:
        raise UserError(
            "the file is larger than 2 GiB, which protobuf cannot parse",
            where=where,
            hint="save the weights as external data: onnx.save(..., save_as_external_data=True)",
        )
    model = parsed(path.read_bytes(), where)
    if not model.HasField("graph") or not model.graph.output or not (model.graph.node or model.graph.input):
        raise UserError(
            "the file holds no graph",
            where=where,
            hint="it is empty or truncated: export or download it again",
        )
    _check_names(model.graph, where)
    model = inlined(model, where)
    sort_nodes(model.graph, where)
    return model


def parsed(data: bytes, where: str) -> onnx.ModelProto:
    """The protobuf in `data`, as it is.

    Raises:
        UserError: it is none.
    """
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except _decode_error() as error:
        raise UserError(
            "this is not an ONNX file, or it is truncated", where=where, hint="export or download it again"
        ) from error
    return model


def _check_names(graph: onnx.GraphProto, where: str) -> None:
    """protobuf hands out names that are not UTF-8 as bytes."""
    names = [
        n for node in graph.node for n in (node.name, node.op_type, node.domain, *node.input, *node.output)
    ]
    names += [v.name for v in (*graph.input, *graph.output, *graph.initializer)]
    if any(isinstance(name, bytes) for name in names):
        raise UserError(
            "a name in the file is not text", where=where, hint="the file is damaged: export it again"
        )


def _decode_error() -> type[Exception]:
    import importlib

    error: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
    return error


def weights_absent(model: onnx.ModelProto) -> bool:
    """True when the exporter left the numbers out on purpose."""
    return any(p.key == WEIGHTS_KEY and p.value == WEIGHTS_ABSENT for p in model.metadata_props)


def initializer_type(proto: onnx.TensorProto) -> TensorType:
    """Shape and format of an initializer."""
    return onnx_type(proto.data_type, tuple(proto.dims))


def is_external(proto: onnx.TensorProto) -> bool:
    """True when the numbers are in a side file."""
    return bool(proto.data_location == 1)  # onnx.TensorProto.EXTERNAL


def external_data(proto: onnx.TensorProto, folder: Path, type: TensorType) -> ExternalData | None:
    """The side file of an initializer, checked; None when it is not there: shapes and prices need none.

    Raises:
        UserError: the path leaves the folder, the file is too short, or sizes contradict.
    """
    entries = {e.key: e.value for e in proto.external_data}
    location = entries.get("location", "")
    where = f"initializer '{proto.name}'"
    path = _inside(folder, location, where)
    if not path.exists():
        return None
    if not path.is_file():
        raise UserError(f"external data '{location}' is no file", where=where)
    try:
        offset = int(entries.get("offset", "0"))
        nbytes = int(entries["length"]) if "length" in entries else type.nbytes
    except ValueError as error:
        raise UserError("external data offset or length is not a number", where=where) from error
    if offset < 0 or nbytes != type.nbytes:
        raise UserError(
            f"external data has {nbytes} bytes at {offset}, but {type} takes {type.nbytes}", where=where
        )
    if offset + nbytes > path.stat().st_size:
        raise UserError(
            f"external data file '{location}' is too short: {path.stat().st_size} bytes, "
            f"{offset + nbytes} needed",
            where=where,
            hint="it is truncated: export or download it again",
        )
    return ExternalData(path, offset, nbytes, type, proto.data_type)


def embedded_data(proto: onnx.TensorProto, type: TensorType) -> EmbeddedData:
    """The numbers of an initializer inside the file, checked to be all there.

    Raises:
        UserError: raw bytes of the wrong length.
    """
    typed = (proto.float_data, proto.int32_data, proto.int64_data, proto.double_data, proto.uint64_data)
    if type.elements and not proto.HasField("raw_data") and not any(len(field) for field in typed):
        raise UserError(
            f"initializer '{proto.name}' has no numbers, but {type} takes {type.nbytes} bytes",
            hint="the file is damaged: export it again",
        )
    if proto.HasField("raw_data") and len(proto.raw_data) != type.nbytes:
        raise UserError(
            f"initializer '{proto.name}' has {len(proto.raw_data)} bytes, but {type} takes {type.nbytes}",
            hint="the file is damaged: export it again",
        )
    return EmbeddedData(proto, type)


def external_files(model: onnx.ModelProto, folder: Path) -> tuple[Path, ...]:
    """The side files that tensors anywhere in the model name, once each; those that lead out are left out.

    Initializers, constants of nodes, and both within graphs of nodes and local functions are looked at.
    """
    places: dict[str, Path] = {}
    for tensor in _tensors(model):
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        place = inside(folder, location) if is_external(tensor) else None
        if place is not None and place.is_file():
            places[location] = place
    return tuple(places[name] for name in sorted(places))


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor within a model, graph, function or node."""
    for graph in (getattr(message, "graph", None),) if hasattr(message, "functions") else ():
        yield from _tensors(graph)
    for part in (*getattr(message, "functions", ()), *getattr(message, "node", ())):
        yield from _tensors(part)
    yield from getattr(message, "initializer", ())
    for sparse in getattr(message, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for attribute in getattr(message, "attribute", ()):
        if isinstance(attribute, str):  # a function lists the names of its attributes
            continue
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


def _inside(folder: Path, location: str, where: str) -> Path:
    place = inside(folder, location)
    if place is None:
        raise UserError(
            f"external data path '{location}' leads out of the model's folder",
            where=where,
            hint="external data must lie in the model's own folder; this file may be hostile",
        )
    return place
