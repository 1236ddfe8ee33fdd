"""Files and folders appear whole or not at all, never through a link, and nothing hidden stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tetrasim.errors import UserError
from tetrasim.files.write import check_free, new_folder, open_in_folder, write_file


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_nothing_is_written_through_a_symbolic_link(tmp_path: Path) -> None:
    """A received folder may hold links to anything."""
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "to_folder").symlink_to(tmp_path)
    with pytest.raises(UserError, match="symbolic link"):
        write_file(tmp_path / "link", "theirs")
    for name in ("link", "to_folder"):
        with pytest.raises(UserError, match="symbolic link"), new_folder(tmp_path / name, replace=True):
            pass
        with pytest.raises(UserError, match="symbolic link"):
            check_free(tmp_path / name, "mark", force=True)
    with pytest.raises(UserError, match="symbolic link"):
        open_in_folder(tmp_path / "link", os.O_RDWR)
    assert (tmp_path / "precious").read_text() == "mine"
    assert names(tmp_path) == ["link", "precious", "to_folder"]


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place, says in (
        (tmp_path / "fifo", "no regular file"),
        (Path("/dev/null"), "no regular file"),
        (Path("/dev/full"), "no regular file"),
        (tmp_path, "a folder"),
        (tmp_path / "absent" / "f", "no folder"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(UserError, match=says):
            write_file(place, "x")
    assert names(tmp_path) == ["fifo"]


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    write_file(tmp_path / ("n" * 255), "x")
    with new_folder(tmp_path / ("f" * 255)) as work:
        (work / "a").write_text("1")
    assert names(tmp_path) == ["f" * 255, "n" * 255]


def _interrupted(place: Path) -> None:
    with new_folder(place, replace=True) as work:
        (work / "b").write_text("2")
        raise KeyboardInterrupt


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as work:
        (work / "a").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a"]


def test_modes_are_kept_and_secrets_private(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "x")
    (tmp_path / "a").chmod(0o600)
    write_file(tmp_path / "a", "y")
    write_file(tmp_path / "b", "z", private=True)
    assert [(tmp_path / n).stat().st_mode & 0o777 for n in "ab"] == [0o600, 0o600]


SLOW = """
import sys, time
from pathlib import Path
from tetrasim.files.write import new_folder, write_file
with new_folder(Path(sys.argv[1]) / "out") as work:
    (work / "half").write_text("1")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    with new_folder(tmp_path / "out"):  # the other is alive: its work stays
        assert len(names(tmp_path)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert names(tmp_path)[0].startswith(".tetrasim-")
    with new_folder(tmp_path / "out", replace=True):
        pass
    assert names(tmp_path) == ["out"]
