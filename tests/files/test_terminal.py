"""Names do not reach the terminal as codes, and no encoding ends a command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tetrasim.errors import UserError
from tetrasim.files.terminal import Terminal, printable, short

COMMAND = [sys.executable, "-m", "tetrasim"]


def test_control_characters_are_shown_not_sent() -> None:
    assert printable("a\x1b[31mb\rc\x07\x9b\u202e\tq\n") == "a\\x1b[31mb\\rc\\x07\\x9b\\u202e\tq\n"
    assert printable("größer µs → 日本") == "größer µs → 日本"


def test_the_encoding_of_the_stream_ends_nothing() -> None:
    raw = io.BytesIO()
    stream = Terminal(io.TextIOWrapper(raw, encoding="ascii"), data=True)
    stream.write("3 µs → 日 │ ┌\udcff\x1b\n")
    stream.flush()
    assert raw.getvalue() == b"3 us -> \\u65e5 | +\\udcff\\x1b\n"


def test_long_names_keep_both_ends() -> None:
    assert short("abc") == "abc"
    assert len(short("a" * 100_000 + "end")) <= 200
    assert short("a" * 100_000 + "end").endswith("end")


def test_a_full_disk_behind_stdout_is_the_users_to_know() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        stream = Terminal(full, data=True)
        with pytest.raises(UserError, match="no room is left"):
            stream.write("x" * 100_000)
        quiet = Terminal(full, data=False)
        quiet.write("x" * 100_000)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


@pytest.mark.parametrize(
    ("redirect", "code"),
    [
        ("> /dev/full", 2),
        ("2> /dev/full", 0),
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("| head -c 1", 0),
    ],
)
def test_streams_of_a_shell(redirect: str, code: int, tmp_path: Path) -> None:
    command = f"set -o pipefail; '{sys.executable}' -m tetrasim dram devices {redirect}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if code:
        assert "no room is left" in done.stderr


@pytest.mark.parametrize(
    "setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_terminals_without_unicode(setting: dict[str, str]) -> None:
    arguments = ["op", "matmul", "--m", "64", "--n", "64", "--k", "64", "--on", "gpu/t4"]
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, env={**os.environ, **setting}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"latency" in done.stdout
