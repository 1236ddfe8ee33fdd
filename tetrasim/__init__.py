"""tetrasim: how fast, how costly in energy, and how sure, when this transformer runs on that machine.

The verbs (export, load, simulate, compare, explore, generate_hls) are imported when they are first used, so
that `import tetrasim` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from tetrasim.onnx_runtime import forbid_reports

__version__ = "0.1.0"

forbid_reports()

if TYPE_CHECKING:
    from tetrasim.dse.explore import explore
    from tetrasim.errors import UserError
    from tetrasim.facade import Comparison, Run, compare, export, generate_hls, load, simulate

__all__ = [
    "Comparison",
    "Run",
    "UserError",
    "compare",
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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tetrasim' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _VerbModule(ModuleType):
    """`tetrasim.export` is a verb and also a package: the package is callable."""

    def __call__(self, *args: object, **options: object) -> object:
        name = self.__name__.rpartition(".")[2]
        verb = getattr(import_module(_HOMES[name]), name)
        return verb(*args, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds a submodule to its package here, which would hide the verb of that name.
        if name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _VerbModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
