"""What a text, JSON, CSV, YAML file or archive may hold, and what each refusal says."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tetrasim.errors import UserError
from tetrasim.files.npz import read_npz, write_npz
from tetrasim.files.read import csv_of, json_of, read_bytes, read_json, read_text
from tetrasim.files.yaml import read_yaml, yaml_of


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistakes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: two\r\n")
    assert read_yaml(tmp_path / "a.yaml").tree == {"a": 1, "b": "two"}
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"ok\n\xff\xfe")
    (tmp_path / "nul").write_bytes(b"a\n\nb\0c")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, says in (
        ("absent", "no such file"),
        (".", "folder"),
        ("binary", ":2: not UTF-8"),
        ("nul", ":3: a NUL byte"),
        ("fifo", "no regular file"),
        ("loop", "symbolic link"),
        ("x" * 300, "too long"),
        ("nul\0", "not a path"),
    ):
        with pytest.raises(UserError, match=says):
            read_text(tmp_path / name)


def test_a_large_file_is_not_held(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(UserError, match="larger than 1 MB"):
        read_bytes(tmp_path / "huge")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 2024-13-45", "f:1: 'a' looks like a date, but month must be"),
        ("a: !!timestamp x", "looks like a date"),
        ("a: !!python/object/apply:os.system [ls]", "no plain value"),
        ("a: !!binary zz", "binary, which is no plain value"),
        ("a: !!int x", "does not fit its tag"),
        ("a: &x 1\nb: *x", "f:2: YAML aliases"),
        ("<<: {a: 1}", "a key is no text"),
        ("? [1]\n: 2", "a key is no text"),
        ("a: {b: 1, b: 2}", "'a.b' is given twice"),
        ("a: .nan", "not a finite number"),
        ("a: [1, -.inf]", "'a.1' is -.inf"),
        ("a: 1.0e+999", "not a finite number"),
        ("a: " + "1" * 5000, "has 5000 digits"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "{a: " * 300 + "1" + "}" * 300, "nested too deeply"),
        ("a: [", "not valid YAML"),
        ("a: 1\n---\nb: 1", "another document"),
        ("", "expected `key: value`"),
        ("- a", "expected `key: value`"),
        ('a: "\x1b"', "not valid YAML"),
    ],
)
def test_yaml_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        yaml_of(text, "f")
    assert says in str(caught.value)
    assert caught.value.hint


def test_yaml_keys_are_names_as_written() -> None:
    assert yaml_of("on: 1\n2024-01-01: x\n1: 2\na: 2024-05-06", "f").tree == {
        "on": 1,
        "2024-01-01": "x",
        "1": 2,
        "a": "2024-05-06",
    }
    assert yaml_of("a:\n  - b: 1\n  - c", "f").lines == {"a": 1, "a.0": 2, "a.0.b": 2, "a.1": 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "f:1: not valid JSON"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "Infinity is no number"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ("[" * 200_000, "nested too deeply"),
        ("1" * 5000, "not valid JSON"),
    ],
)
def test_json_is_refused_with_its_reason(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        json_of(text, "f")
    assert says in str(caught.value)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_of_spreadsheets(mark: str) -> None:
    text = f'op{mark} m\n\n"a{mark}b"{mark}1\nc{mark}\n'
    assert csv_of(text, "f") == (["op", "m"], [(3, {"op": f"a{mark}b", "m": "1"}), (4, {"op": "c", "m": ""})])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("a,a\n1,2", "f:1: the column 'a' is given twice"),
        ("a,b\n1,2,3", "f:2: 3 cells, more values than the 2 columns"),
        ('a\n"x', "f:2: not a table"),
    ],
)
def test_tables_are_refused_with_their_line(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        csv_of(text, "f")
    assert says in str(caught.value)


def _archive(header: str, body: bytes) -> bytes:
    encoded = header.encode() + b" " * (117 - len(header)) + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + body)
    return stream.getvalue()


def test_archives_are_read_whole_and_without_trust(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.array(True)}
    write_npz(file, arrays)
    found = read_npz(file)
    assert all(np.array_equal(found[k], v) and found[k].dtype == v.dtype for k, v in arrays.items())
    good = file.read_bytes()
    claims = "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,), }"
    objects = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    flipped = bytearray(good)
    flipped[good.index(b"\x00\x00\x80\x3f")] ^= 1
    for data, says in (
        (_archive(claims, b"12345678"), "claims 80000000000 bytes"),
        (_archive(objects, b"\x80\x04."), "holds no numbers"),
        (_archive("{'descr': open('x'), }", b""), "no archive of arrays"),
        (good[: len(good) // 2], "no archive of arrays"),
        (bytes(flipped), "CRC"),
        (b"", "no archive of arrays"),
    ):
        file.write_bytes(data)
        with pytest.raises(UserError, match=says):
            read_npz(file)
    file.write_bytes(
        _archive("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000,), }", bytes(8_000_000))
    )
    with pytest.raises(UserError, match="take more than 1 MB"):
        read_npz(file, 1 << 20)
