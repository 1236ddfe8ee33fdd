"""Reading files that nobody vouches for: bounded, as UTF-8 text, JSON or CSV; one table of what goes wrong.

What cannot be read is a `UserError` that names the file and the reason. A byte order mark and Windows line
ends are no mistakes. YAML is in `yaml.py`.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from tetrasim.errors import UserError

MAX_TEXT_BYTES = 1 << 20
MAX_DEPTH = 64  # of nested lists and mappings in JSON and YAML

# What an operating system says, in words with a next step; anything else keeps the system's own words.
REASONS = {
    errno.ENOENT: ("there is no such file or folder", "check the path"),
    errno.EISDIR: ("this is a folder", "name a file in it"),
    errno.ENOTDIR: ("a part of the path is no folder", "check the path"),
    errno.EACCES: ("access is denied", "check the rights of the file and its folder"),
    errno.EPERM: ("the system does not permit it", "check the rights of the file and its folder"),
    errno.EROFS: ("the file system is read-only", "name a place that can be written"),
    errno.ENOSPC: ("no room is left on the disk", "free some space, or name a place on another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or name a place on another disk"),
    errno.EFBIG: ("the file would be too large for its disk", "name a place on another disk"),
    errno.ENAMETOOLONG: ("a name in the path is too long", "choose a shorter name"),
    errno.ELOOP: ("the path leads through a symbolic link in a circle, or one that is not followed",
                  "name the file itself"),
    errno.EMFILE: ("too many files are open", "raise the limit (`ulimit -n`)"),
    errno.ENFILE: ("too many files are open", "raise the limit of the system"),
    errno.EIO: ("the disk reports an error", "check the disk"),
    errno.ENXIO: ("nothing answers there", "name a regular file"),
    errno.EINVAL: ("the path or the place does not allow it", "name a regular file in a regular folder"),
    errno.EBADF: ("the stream is closed", "open it, or name a file"),
    errno.ENOMEM: ("the memory is used up", "use a smaller input, or a machine with more memory"),
    errno.ETXTBSY: ("the file is in use", "wait until it is not"),
    errno.EBUSY: ("the file is in use", "wait until it is not"),
    errno.ENOLCK: ("the file system cannot lock files", "name a place on a local disk"),
    errno.EOPNOTSUPP: ("the file system does not support it", "name a place on a local disk"),
    errno.ESTALE: ("the file was removed on its server", "mount its disk again"),
}  # fmt: skip


def mistake_of(failure: OSError, what: str, where: str | Path = "", hint: str = "") -> UserError:
    """`failure` as a user's error: `what` could not be done, and the system's reason."""
    code = failure.errno if failure.errno is not None else -1
    reason, next_step = REASONS.get(code, (failure.strerror or str(failure), "check the path"))
    place = str(where) or str(failure.filename or "")
    return UserError(f"{what}: {reason}", where=place, hint=hint or next_step)


def read_bytes(file: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of a regular file of at most `most` bytes; nothing larger is ever held.

    Raises:
        UserError: it is missing, too large, no regular file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            kind = "a folder" if file.is_dir() else "no regular file"
            raise UserError(f"this is {kind}", where=str(file), hint="name a file")
        with file.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as failure:
        raise mistake_of(failure, "cannot read the file", file) from None
    except ValueError:  # a NUL in the path
        raise UserError("the path is not a path", where=repr(str(file)), hint="check the path") from None
    if len(data) > most:
        size = f"{most >> 20} MB" if most >= 1 << 20 else f"{most >> 10} kB"
        raise UserError(f"the file is larger than {size}", where=str(file), hint="is it the right file?")
    return data


def inside(folder: Path, name: str) -> Path | None:
    """The place that `name` has in `folder`, links followed; None when it leads out, or names no path."""
    root = Path(os.path.realpath(folder))
    if not name or "\0" in name or "\\" in name or os.path.isabs(name) or ".." in Path(name).parts:
        return None
    place = Path(os.path.realpath(root / name))
    return place if place.is_relative_to(root) and place != root else None


def sha256_of(file: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as failure:
        raise mistake_of(failure, "cannot read the file", file) from None


def read_text(file: Path, most: int = MAX_TEXT_BYTES) -> str:
    """The UTF-8 text of a file, without its byte order mark; lines end in a line feed.

    Raises:
        UserError: as `read_bytes`, or it is not UTF-8 text.
    """
    return text_of(read_bytes(file, most), str(file))


def text_of(data: bytes, where: str) -> str:
    """Decoded bytes of a text file, see `read_text`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        line = data[: failure.start].count(b"\n") + 1
        raise UserError("not UTF-8 text", where=f"{where}:{line}", hint="save it as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError("a NUL byte in the text", where=f"{where}:{line}", hint="save it as plain UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(file: Path, most: int = MAX_TEXT_BYTES) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: as `read_text`; malformed JSON with its line, NaN or infinity, a key given twice, a number
            of thousands of digits, or a file that is nested too deeply.
    """
    return json_of(read_text(file, most), str(file))


def json_of(text: str, where: str) -> Any:
    """The value of a JSON text, see `read_json`."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_pairs)
    except json.JSONDecodeError as failure:
        raise UserError(
            f"not valid JSON: {failure.msg.lower()}",
            where=f"{where}:{failure.lineno}",
            hint="correct it there",
        ) from None
    except RecursionError:
        raise UserError("the file is nested too deeply", where=where, hint="a few levels do") from None
    except ValueError as failure:
        raise UserError(f"not valid JSON: {failure}", where=where, hint="correct it there") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"'{twice}' is given twice")
    return out


def read_csv(file: Path, most: int) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns, and (line, cells by column) of every line with text, of a table with a header.

    The separator is a comma, or what a spreadsheet of another language writes: a semicolon or a tab.

    Raises:
        UserError: as `read_text`; an empty file, a column given twice, a line with more cells than columns,
            a quote that is not closed.
    """
    return csv_of(read_text(file, most), str(file))


def csv_of(text: str, where: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns and lines of a table's text, see `read_csv`."""
    columns, rows = cells_of(text, where)
    return columns, [(line, dict(zip(columns, cells, strict=True))) for line, cells in rows]


def cells_of(text: str, where: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Columns, and (line, one cell per column) of a table's text, see `read_csv`."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise UserError("the table is empty", where=where, hint="its first line names the columns")
    mark = max(",;\t", key=lines[start].count)
    reader = csv.reader(lines[start:], delimiter=mark, strict=True, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        columns = [name.strip() for name in next(reader)]
        while columns and not columns[-1]:  # a separator at the end of every line
            columns.pop()
        _check_columns(columns, f"{where}:{start + 1}")
        width = len(columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > width and any(cell.strip() for cell in cells[width:]):
                raise UserError(
                    f"{len(cells)} cells, more values than the {width} columns",
                    where=f"{where}:{start + reader.line_num}",
                    hint="quote a cell that holds the separator",
                )
            padded = [cell.strip() for cell in cells[:width]]
            rows.append((start + reader.line_num, padded + [""] * (width - len(padded))))
    except csv.Error as failure:
        raise UserError(
            f"not a table: {failure}", where=f"{where}:{start + reader.line_num}", hint="check its quotes"
        ) from None
    return columns, rows


def _check_columns(columns: list[str], where: str) -> None:
    twice = next((name for i, name in enumerate(columns) if name in columns[:i]), None)
    if twice is not None:
        raise UserError(f"the column '{twice}' is given twice", where=where, hint="keep one")
