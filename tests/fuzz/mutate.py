"""Mutators that know the structure of what they change: a seeded generator and a value in, a value out."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import onnx

NUMBERS = (0, -1, 1, 2, 3, 1.5, -0.0, 1e-300, 1e300, 2**31, 2**53 + 1, 2**63, 10**30, 1e18, 255, 65536)
TEXTS = (
    "", " ", "x", "nan", "inf", "-inf", "null", "true", "1e9", "../x", "/etc/passwd", "a" * 300, "é\u202e",
    "\x1b[31m", "<b>", "${HOME}", "%s%n", "{}", "'", '"', "日本", "-", "float32", "gpu/t4",
)  # fmt: skip
OPS = (
    "Relu", "MatMul", "Add", "Reshape", "Softmax", "Loop", "If", "Gather", "Concat", "Slice", "Tile",
    "Resize", "LSTM", "Unknown", "", "Attention",
)  # fmt: skip
WEIRD: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a": 1}, [1, "x"], *NUMBERS, *TEXTS)


def data(rng: Random, given: bytes) -> bytes:
    """Bytes flipped, cut, doubled or replaced."""
    out = bytearray(given)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[at:]
            case 2:
                out[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                del out[at : at + rng.randint(1, 20)]
            case 4:
                out[at:at] = out[at : at + rng.randint(1, 40)]
            case _:
                out[at:at] = rng.choice(
                    (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n" * 5, b'"', b"\x80")
                )
    return bytes(out)


def text(rng: Random, given: str) -> str:
    """A character, word or line changed, doubled, moved or left out."""
    lines = given.split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 2:
            words = lines[at].split(" ")
            words[rng.randrange(len(words))] = str(rng.choice(WEIRD))
            lines[at] = " ".join(words)
        case 3:
            spot = rng.randrange(len(lines[at]) + 1)
            lines[at] = (
                lines[at][:spot] + rng.choice("\t:;,-{}[]&*!|>'\"%@`0a \u00a0\u2028é") + lines[at][spot:]
            )
        case 4:
            spot = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:spot] + lines[at][spot + rng.randint(1, 3) :]
        case _:
            lines = [rng.choice(("  ", "\t", "- ", "")) + line for line in lines]
    return "\n".join(lines)


def tree(rng: Random, given: Any) -> Any:
    """Plain data with one to three places changed: a value, a key, an item more or less."""
    out = copy.deepcopy(given)
    for _ in range(rng.randint(1, 3)):
        holders = list(_holders(out))
        if holders:
            _change(rng, rng.choice(holders))
    return out


def _holders(value: Any) -> list[Any]:
    found: list[Any] = []
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if inside:
        found.append(value)
    for item in inside:
        found += _holders(item)
    return found


def _change(rng: Random, holder: Any) -> None:
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = rng.choice(keys)
    match rng.randrange(5):
        case 0:
            holder[key] = copy.deepcopy(rng.choice(WEIRD))
        case 1:
            del holder[key]
        case 2 if isinstance(holder, dict):
            name = str(key)
            spot = rng.randrange(len(name) + 1)
            holder[name[:spot] + rng.choice("abcxyz_. ") + name[spot:]] = holder.pop(key)
        case 2 | 3 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * rng.choice((0, -1, 0.5, 2, 1000, 10**9))
        case _:
            other = rng.choice(keys)
            holder[key] = copy.deepcopy(holder[other])


def table(rng: Random, given: str) -> str:
    """A CSV with a cell, a column, a line or its separator changed."""
    rows = [line.split(",") for line in given.rstrip("\n").split("\n")]
    row = rng.choice(rows)
    match rng.randrange(7):
        case 0 | 1:
            row[rng.randrange(len(row))] = str(rng.choice(WEIRD))
        case 2:
            row.append(str(rng.choice(WEIRD)))
        case 3:
            row.pop()
        case 4:
            rows.insert(rng.randrange(len(rows) + 1), [""])
        case 5:
            rng.shuffle(rows)
        case _:
            del rows[rng.randrange(len(rows))]
    out = rng.choice(("\n", "\r\n")).join(rng.choice((",", ",", ";", "\t")).join(r) for r in rows)
    return rng.choice(("", "\ufeff")) + out + rng.choice(("", "\n"))


def json_text(rng: Random, given: Any) -> str:
    """JSON of a changed tree, or changed text of it."""
    if rng.random() < 0.7:
        return json.dumps(tree(rng, given))
    return text(rng, json.dumps(given, indent=1))


def onnx_fields(rng: Random, given: onnx.ModelProto) -> onnx.ModelProto:
    """A file with one to three fields of its graph changed."""
    out = onnx.ModelProto()
    out.CopyFrom(given)
    for _ in range(rng.randint(1, 3)):
        rng.choice((_node, _node, _initializer, _port, _version, _dims, _names))(rng, out)
    return out


def _node(rng: Random, model: onnx.ModelProto) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    node = rng.choice(nodes)
    names = [v for n in nodes for v in (*n.input, *n.output)] + ["", "absent"]
    match rng.randrange(8):
        case 0:
            node.op_type = rng.choice(OPS)
        case 1 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        case 2 if node.output:
            node.output[rng.randrange(len(node.output))] = rng.choice(names)
        case 3:
            node.input.append(rng.choice(names))
        case 4 if node.input:
            del node.input[-1]
        case 5:
            value = rng.choice((0, -1, 2**62, 1.5, float("nan"), "text", b"\xff", [1, 2, 3], [-1], [0.5]))
            name = rng.choice(
                ("axis", "axes", "perm", "keepdims", "epsilon", "alpha", "to", "shape", "num_heads")
            )
            node.attribute.append(onnx.helper.make_attribute(name, value))
        case 6:
            node.domain = rng.choice(("com.microsoft", "ai.onnx", "my", "ai.onnx.ml", "\x1b[2J"))
        case _:
            nodes.remove(node)


def _initializer(rng: Random, model: onnx.ModelProto) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    match rng.randrange(6):
        case 0 if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, -1, 1, 3, 10**15, 2**62))
        case 1:
            tensor.data_type = rng.randrange(26)
        case 2:
            tensor.raw_data = data(rng, tensor.raw_data)
        case 3:
            tensor.ClearField("raw_data")
        case 4:
            tensor.data_location = 1
            entry = tensor.external_data.add()
            entry.key, entry.value = (
                "location",
                rng.choice(("../x", "/etc/passwd", "absent", "", ".", "m.onnx")),
            )
        case _:
            tensor.raw_data = b"\xff" * len(tensor.raw_data)  # NaN in every float format


def _port(rng: Random, model: onnx.ModelProto) -> None:
    ports = [*model.graph.input, *model.graph.output]
    if not ports:
        return
    port = rng.choice(ports)
    dims = port.type.tensor_type.shape.dim
    match rng.randrange(4):
        case 0 if dims:
            dims[rng.randrange(len(dims))].dim_value = rng.choice((0, -1, 1, 5, 10**15, 2**62))
        case 1 if dims:
            dims[rng.randrange(len(dims))].dim_param = rng.choice(
                ("", "n", "n + 1", "-1", "?", "\x1b[31m", "a" * 300)
            )
        case 2:
            port.type.tensor_type.elem_type = rng.randrange(26)
        case _:
            port.ClearField("type")


def _version(rng: Random, model: onnx.ModelProto) -> None:
    if rng.random() < 0.5:
        model.ir_version = rng.choice((0, 1, 3, 99, 2**40))
    elif model.opset_import:
        model.opset_import[0].version = rng.choice((0, 1, 6, 9, 13, 25, 99, 2**40))


def _dims(rng: Random, model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.dims and rng.random() < 0.3:
            tensor.dims.append(rng.choice((1, 0, 2)))


def _names(rng: Random, model: onnx.ModelProto) -> None:
    name = rng.choice(TEXTS)
    for node in model.graph.node:
        if rng.random() < 0.5:
            node.name = name
