"""`manifest.json`: what an export folder holds, readable without torch.

It names the graphs, their inputs, outputs, symbolic dims and state pairs, whether the weights are there,
what was checked with which error, and the hashes that identify the content.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tetrasim.errors import UserError
from tetrasim.export.phases import Phase
from tetrasim.files.read import inside, read_json, sha256_of

MANIFEST = "manifest.json"
SCHEMA = "tetrasim-export-1"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison on random inputs: the largest absolute difference, and the largest value compared."""

    name: str
    max_abs_error: float
    output_range: float


@dataclass(frozen=True, slots=True)
class PhaseFile:
    """One ONNX file of the folder."""

    phase: Phase
    file: str
    sha256: str
    nodes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The folder's description; `key` is the hash of everything that determined the export."""

    schema: str
    model: str
    title: str
    parameters: int
    architecture: str
    longest: int  # tokens: the context of a decoder, the sequence of an encoder
    weights: str  # "absent", "random seed 0", "given", "trained on digits, …"
    weights_file: str  # empty when absent
    key: str
    phases: tuple[PhaseFile, ...]
    checks: tuple[Check, ...]
    checks_note: str  # why there are none, when there are none
    packages: tuple[tuple[str, str], ...]
    weights_sha256: str = ""  # of the weights file

    @property
    def has_weights(self) -> bool:
        return self.weights != "absent"

    @property
    def max_abs_error(self) -> float:
        """Over all checks; 0 when nothing could be checked (see `checks_note`)."""
        return max((check.max_abs_error for check in self.checks), default=0.0)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """An export folder and its manifest."""

    folder: Path
    manifest: Manifest
    cached: bool = False

    def path(self, phase: str) -> Path:
        """The ONNX file of `phase`: "prefill", "step" or "forward".

        Raises:
            UserError: when the model has no such phase.
        """
        for entry in self.manifest.phases:
            if entry.phase.name == phase:
                return self.place(entry.file)
        names = ", ".join(entry.phase.name for entry in self.manifest.phases)
        raise UserError(f"model '{self.manifest.model}' has no phase '{phase}'", hint=f"it has: {names}")

    def place(self, name: str) -> Path:
        """A file that the manifest names.

        Raises:
            UserError: the name leads out of the folder.
        """
        found = inside(self.folder, name)
        if found is None:
            raise UserError(
                f"'{name}' leads out of the folder",
                where=str(self.folder / MANIFEST),
                hint="this folder may be hostile: export the model again",
            )
        return self.folder / name

    def digests(self) -> tuple[tuple[str, str, str], ...]:
        """(file, digest in the manifest, digest of its bytes now) of every graph and of the weights.

        Raises:
            UserError: a file is missing, or leads out of the folder.
        """
        manifest = self.manifest
        named = [(entry.file, entry.sha256) for entry in manifest.phases]
        named += [(manifest.weights_file, manifest.weights_sha256)] if manifest.weights_file else []
        return tuple((name, digest, sha256_of(self.place(name))) for name, digest in named)

    def phase(self, name: str) -> Phase:
        """The inputs, outputs and states of a phase."""
        self.path(name)
        return next(entry.phase for entry in self.manifest.phases if entry.phase.name == name)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export folder.

    Raises:
        UserError: when it is missing, or not of this version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"no {MANIFEST} in '{folder}'", hint="give a folder that `tetrasim export` wrote")
    try:
        return _ADAPTER.validate_python(read_json(path), strict=False)
    except ValidationError as err:
        raise UserError(
            f"not a manifest of this version: {err.errors()[0]['msg']}",
            where=str(path),
            hint="export it again",
        ) from None


_ADAPTER = TypeAdapter(Manifest)
