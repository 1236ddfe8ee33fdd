"""Python processes of our own: the packages of this one, and nothing from the working folder.

`python -m module` puts the working folder first on the import path, so that a file `random.py` there would be
executed. Every process is therefore started with `-P`, and what it starts itself inherits PYTHONSAFEPATH.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` of this package in a new interpreter."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment(**changes: str) -> dict[str, str]:
    """This process's environment, with the import path that leads to the same packages."""
    paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if _leads_to_packages(path))]
    found = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONSAFEPATH": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    return {**os.environ, **found, **changes}


def _leads_to_packages(path: str) -> bool:
    """Not the working folder, nor the folder of the script that runs."""
    script = Path(sys.argv[0] or ".").absolute().parent
    return bool(path) and Path(path).absolute() not in (Path.cwd(), script)
