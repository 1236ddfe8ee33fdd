"""tetrasim: how fast, how costly in energy, and how sure, when this transformer runs on that machine.

The verbs (export, load, simulate, explain, compare, explore, generate_hls) are imported when they are first
used, so that `import tetrasim` costs nothing.
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m tetrasim` has put the working folder first on the import path; nothing is imported from it.
    # The package's own modules are found through the package, wherever that was found.
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING

from tetrasim.onnx_runtime import forbid_reports
from tetrasim.version import VERSION

__version__ = VERSION

forbid_reports()

# The import system binds a package to its name when the package is first imported. That happens here,
# before the verb of that name is bound, so that the verb stays; `from tetrasim.export.manifest import …`
# still works.
import_module("tetrasim.export")

if TYPE_CHECKING:
    from pathlib import Path

    from tetrasim.dse.explore import explore
    from tetrasim.errors import UserError
    from tetrasim.export.manifest import ExportedModel
    from tetrasim.facade import Comparison, Run, compare, explain, generate_hls, load, simulate

__all__ = [
    "Comparison",
    "Run",
    "UserError",
    "compare",
    "explain",
    "explore",
    "export",
    "generate_hls",
    "load",
    "simulate",
]

_HOMES = {name: "tetrasim.facade" for name in __all__} | {
    "UserError": "tetrasim.errors",
    "explore": "tetrasim.dse.explore",
}


def export(
    model: str | Path, output: str | Path | None = None, *, weights: str = "auto", use_cache: bool = True
) -> ExportedModel:
    """Export a preset (or a YAML file of one) to ONNX graphs with a manifest, checked against torch.

    Raises:
        UserError: unknown model, a folder that exists or cannot be written.
    """
    from tetrasim.facade import export as made

    return made(model, output, weights=weights, use_cache=use_cache)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tetrasim' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
