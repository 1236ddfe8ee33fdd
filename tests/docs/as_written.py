"""Run commands in the working folder as a shell would, one after the other in one process, as the `tetrasim`
script does: `python as_written.py COMMANDS.json`, a list of argument lists.

Prints one JSON list of `[exit code, stdout, stderr, seconds]` per command as its last line.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path


class Stream(io.StringIO):
    """A text stream with an encoding, as a redirected stdout has."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


def main() -> None:
    from tetrasim.cli import main as command

    told = []
    for words in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        out, err = Stream(), Stream()
        start = time.monotonic()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command(words)
        told.append((code, out.getvalue()[-4000:], err.getvalue()[-4000:], time.monotonic() - start))
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
