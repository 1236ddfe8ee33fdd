"""What makes a result reproducible: hashes of the code, the model and the configuration, and versions.

No date, no host, no path: the same inputs on another machine give the same bytes.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

from tetrasim.sim.result import Provenance

PACKAGES = ("numpy", "numba", "onnx", "onnxruntime")
# What no simulated number depends on; exports of models have their own digest (`export/cache.py`).
_OTHER = ("cli", "dse", "export", "models", "reports")
_SUFFIXES = (".py", ".yaml", ".csv", ".json", ".v", ".h")


def sha256(data: bytes | str) -> str:
    """Hex digest."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


@cache
def code_sha256() -> str:
    """Digest of the sources and presets that simulated numbers depend on, in path order."""
    root = Path(__file__).parents[1]
    files: list[Path] = []
    for part in root.iterdir():
        if part.name not in _OTHER:
            files += [f for f in (part.rglob("*") if part.is_dir() else (part,)) if f.suffix in _SUFFIXES]
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.relative_to(root).as_posix()):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def package_versions() -> tuple[tuple[str, str], ...]:
    """Versions of the packages that numbers may depend on."""
    return tuple((name, metadata.version(name)) for name in PACKAGES)


def provenance(model_sha256: str, config_json: str, command: str) -> Provenance:
    """Provenance of one result."""
    return Provenance(
        version=metadata.version("tetrasim"),
        code_sha256=code_sha256(),
        model_sha256=model_sha256,
        config_sha256=sha256(config_json),
        command=command,
        packages=package_versions(),
    )
