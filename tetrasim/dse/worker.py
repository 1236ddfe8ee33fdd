"""A worker process: reads a study and then jobs as JSON lines on stdin, answers with JSON lines on stdout.

It ends when its input ends, so no worker outlives its driver for longer than one evaluation.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from tetrasim.dse.executors import outcome_of
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.store import Store


def main() -> None:
    """Serve until stdin closes."""
    gc.set_threshold(100_000, 20, 50)  # as the command line does: caches of prices grow, garbage does not
    answers = sys.stdout
    header = json.loads(sys.stdin.readline() or "null")
    if header is None:
        return
    with contextlib.redirect_stdout(sys.stderr):  # a chatty library must not break the protocol
        spec = make_spec(header["spec"])
        store = Store(Path(header["store"]))
        _answer(answers, {"ready": True})
        for line in sys.stdin:
            job = json.loads(line)
            outcome = outcome_of(spec, job["point"], store)
            _answer(answers, {"number": job["number"], "metrics": outcome.metrics, "note": outcome.note})


def _answer(answers: TextIO, tree: dict[str, Any]) -> None:
    """Write one line; without a driver to read it there is nothing left to do (the store has the outcome)."""
    try:
        answers.write(json.dumps(tree) + "\n")
        answers.flush()
    except BrokenPipeError:
        os._exit(0)  # the interpreter's own shutdown would try to flush again, and complain


if __name__ == "__main__":
    main()
