"""Finished simulations by content: what was computed once for the same inputs is read, not computed again.

The key hashes the model (its files), the target's whole configuration, the workload and tetrasim's code;
an entry is a folder with `result.json`, the trace and the digest of both, made by one rename. No pickle: an
entry that is damaged, changed or older counts as absent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.files.cache import cache_root
from tetrasim.files.write import new_folder
from tetrasim.reports import perfetto
from tetrasim.reports.document import document, parse
from tetrasim.reports.formats import report_json
from tetrasim.sim.result import Result
from tetrasim.sim.workload import Workload

_RESULT, _TRACE, _DIGEST = "result.json", "trace.pftrace", "sha256"


@dataclass(frozen=True, slots=True)
class Entry:
    """One target's result and the Perfetto trace of its runs."""

    result: Result
    trace: bytes


def key_of(model_sha256: str, preset: str, config_json: str, workload: Workload, code_sha256: str) -> str:
    """The content address of one simulation; `preset` is everything that describes it beside its numbers."""
    work = json.dumps(asdict(workload), sort_keys=True)
    parts = (model_sha256, preset, config_json, work, code_sha256, _trace_code())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@lru_cache(maxsize=1)
def _trace_code() -> str:
    """Digest of the code that writes traces, which the digest of the simulation's code leaves out."""
    files = (Path(perfetto.__file__), Path(__file__).with_name("traces.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def find(key: str) -> Entry | None:
    """The entry, or None when there is none that can be read."""
    folder = _folder(key)
    try:
        result, trace = (folder / _RESULT).read_bytes(), (folder / _TRACE).read_bytes()
        if (folder / _DIGEST).read_text(encoding="ascii") != _digest(key, result, trace):
            return None
        return Entry(parse(result, _RESULT).results[0], trace)
    except (OSError, UserError, IndexError, UnicodeDecodeError):
        return None


def store(key: str, entry: Entry) -> None:
    """Keep an entry. A cache that cannot be written costs time, not the result."""
    try:
        with new_folder(_folder(key), replace=True) as folder:
            result = report_json.render(document((entry.result,))).encode()
            (folder / _RESULT).write_bytes(result)
            (folder / _TRACE).write_bytes(entry.trace)
            (folder / _DIGEST).write_text(_digest(key, result, entry.trace), encoding="ascii")
    except UserError:
        return


def _digest(key: str, result: bytes, trace: bytes) -> str:
    """Of all that an entry holds: one that was changed or cut short is no entry."""
    parts = (hashlib.sha256(part).hexdigest() for part in (key.encode(), result, trace))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _folder(key: str) -> Path:
    return cache_root() / "results" / key[:2] / key[:32]
