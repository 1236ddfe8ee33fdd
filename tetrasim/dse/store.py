"""Outcomes by content, on disk: one small JSON file per evaluation, shared by all studies and processes.

A file appears by one rename, so it is complete or absent; a damaged or changed one counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from tetrasim.dse.candidate import Candidate
from tetrasim.dse.evaluate import Outcome, evaluate
from tetrasim.errors import UserError
from tetrasim.files.write import make_parents, write_file


class Store:
    """Evaluations under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Outcome | None:
        """The outcome of `key`, or None."""
        try:
            tree = json.loads(self._file(key).read_bytes())
            metrics = {str(k): float(v) for k, v in tree["metrics"].items()}
            found = Outcome(metrics, str(tree["note"]))
            return found if tree["sha256"] == _digest(key, found) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, key: str, outcome: Outcome) -> None:
        """Write the outcome; a store that cannot be written costs time, not the outcome."""
        file = self._file(key)
        tree = {"metrics": outcome.metrics, "note": outcome.note, "sha256": _digest(key, outcome)}
        text = json.dumps(tree, sort_keys=True)
        with contextlib.suppress(UserError):
            make_parents(file)
            write_file(file, text)

    def evaluate(self, candidate: Candidate) -> Outcome:
        """The stored outcome, else a new one, stored."""
        key = candidate.key
        found = self.find(key)
        if found is None:
            found = evaluate(candidate)
            self.keep(key, found)
        return found

    def _file(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.json"


def _digest(key: str, outcome: Outcome) -> str:
    """Of an outcome under its key: one that was changed is not served."""
    text = json.dumps([key, outcome.metrics, outcome.note], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def default_store() -> Store:
    """The store in the user's cache folder."""
    from tetrasim.files.cache import cache_root

    return Store(cache_root() / "evaluations")
