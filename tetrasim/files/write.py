"""Writing files and folders: whole or not at all, never through a symbolic link, nothing hidden left behind.

What is written grows in a sibling whose name says which process makes it, and takes its place by one rename.
The sibling goes when the block ends, however it ends (Ctrl-C and SIGTERM included, which the command line
turns into exceptions); one that a killed process left is removed by the next write to the same place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.files.read import mistake_of

_PREFIX, _SUFFIX = ".tetrasim-", ".part"


@contextlib.contextmanager
def new_folder(target: Path, *, replace: bool = False, hint: str = "") -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds.

    If another process finished the same target first, its folder is kept, unless `replace`. A symbolic link
    at `target` is not followed.

    Raises:
        UserError: when the place cannot be written, or is full.
    """
    work = _sibling(target)
    try:
        refuse_link(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        work.mkdir()
        yield work
        aside = work.with_name(work.name.replace(_SUFFIX, f".old{_SUFFIX}"))
        if replace and target.exists():
            target.rename(aside)
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir() or replace:
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as failure:
        raise mistake_of(failure, f"cannot write '{target}'", target.parent, hint) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_file(file: Path, data: str | bytes, *, private: bool = False, hint: str = "") -> None:
    """One file, complete or not at all, with the mode of the one it replaces (`private`: for the owner only).

    Raises:
        UserError: the place cannot be written, is a folder, a device or a symbolic link.
    """
    work = _sibling(file)
    try:
        check_file(file)
        _remove_abandoned(file)
        mode = 0o600 if private else stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o644
        handle = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
        work.chmod(mode)
        work.replace(file)
    except OSError as failure:
        raise mistake_of(failure, f"cannot write '{file}'", file.parent, hint) from None
    finally:
        with contextlib.suppress(OSError):
            work.unlink()


def check_free(folder: Path, mark: str, *, force: bool = False) -> None:
    """Refuse, before any work is done, an output folder that must not be replaced.

    Args:
        mark: the file that a folder of this kind holds: `force` deletes no other.

    Raises:
        UserError: it exists and is not empty, or `force` would delete something else, or it is a file or a
            symbolic link.
    """
    try:
        refuse_link(folder, "-o")
        if not folder.exists():
            return
        if not folder.is_dir():
            raise UserError(f"'{folder}' is a file", where="-o", hint="name a folder that does not exist")
        if not any(folder.iterdir()):
            return
    except OSError as failure:
        raise mistake_of(failure, f"cannot write '{folder}'", "-o") from None
    if not force:
        raise UserError(
            f"the output folder '{folder}' exists",
            where="-o",
            hint="name another one, or replace it with --force",
        )
    if not (folder / mark).is_file():
        raise UserError(
            f"'{folder}' has no {mark}, so --force does not delete it",
            where="-o",
            hint="name another folder, or delete it yourself",
        )


def check_file(file: Path) -> None:
    """Refuse a place where no file may be written: a folder, a device, a symbolic link.

    Raises:
        UserError: saying which.
    """
    refuse_link(file)
    try:
        mode = os.lstat(file).st_mode
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise UserError(
                f"cannot write '{file}': there is no folder '{file.parent}'", hint="make it, or name another"
            ) from None
        return
    except (OSError, ValueError) as failure:
        problem = failure if isinstance(failure, OSError) else OSError(str(failure))
        raise mistake_of(problem, f"cannot write '{file}'") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise UserError(f"cannot write '{file}': it is {kind}", hint="name a file")


def refuse_link(place: Path, where: str = "") -> None:
    """Refuse a symbolic link: what it names may be anything, and a received folder may hold it.

    Raises:
        UserError: naming the link.
    """
    if os.path.islink(place):
        raise UserError(
            f"'{place}' is a symbolic link, which is not written through",
            where=where,
            hint="remove it, or name the place itself",
        )


def make_parents(target: Path) -> None:
    """The folder that `target` lies in, made where it is missing.

    Raises:
        UserError: it cannot be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise mistake_of(failure, f"cannot make the folder '{target.parent}'") from None


def open_in_folder(file: Path, flags: int) -> int:
    """A file descriptor of a file that is not reached through a symbolic link (mode 644 when created).

    Raises:
        UserError: it is one, or cannot be opened.
    """
    try:
        return os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as failure:
        refuse_link(file)
        raise mistake_of(failure, f"cannot open '{file}'") from None


def _sibling(target: Path) -> Path:
    """A new hidden name beside `target`: which target, on which host, by which process."""
    return target.parent / f"{_mark(target)}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"


def _mark(target: Path) -> str:
    """The name may be as long as the file system allows, so its siblings are named by a digest."""
    named = hashlib.sha256(f"{socket.gethostname()}/{target.name}".encode(errors="replace")).hexdigest()[:12]
    return f"{_PREFIX}{named}-"


def _remove_abandoned(target: Path) -> None:
    """Siblings of the same target whose process, on this host, is gone."""
    for left in target.parent.glob(f"{_mark(target)}*{_SUFFIX}"):
        pid = left.name.removeprefix(_mark(target)).partition("-")[0]
        if pid.isdecimal() and int(pid) != os.getpid() and not _runs(int(pid)):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
