"""Which files a run folder holds: the comparison on top, the same five files per target below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tetrasim.reports.document import Document, document
from tetrasim.reports.folder import LOCK_NAME, RunFiles, folder_name, write
from tetrasim.reports.formats import report_formats
from tetrasim.reports.lock import Lock, LockedTarget, to_yaml


def save_run(
    folder: Path, found: Document, traces: Sequence[bytes], lock: Lock, *, force: bool = False
) -> Path:
    """Write everything and return the folder.

    Raises:
        UserError: the folder exists and may not be replaced, or cannot be written.
    """
    # Perfetto traces concatenate: each part clears the state of its own packet sequence first.
    top = _files(found, b"".join(traces), lock, folder)
    parts = {}
    if len(found.results) > 1:
        for result, trace, target in zip(found.results, traces, lock.targets, strict=True):
            name = folder_name(result.preset)
            parts[name] = _files(document((result,)), trace, _only(lock, target), folder / name)
    write(folder.absolute(), top, parts, force)
    return folder


def _files(found: Document, trace: bytes, lock: Lock, folder: Path) -> RunFiles:
    texts = [(known.file, known.render(found).encode()) for known in report_formats()]
    return RunFiles((*texts, ("trace.pftrace", trace), (LOCK_NAME, to_yaml(lock, folder).encode())))


def _only(lock: Lock, target: LockedTarget) -> Lock:
    return replace(lock, targets=(target,))
