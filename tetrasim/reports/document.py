"""`Document`: what `report.json` holds, one or several results of the same model, and how it is read back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tetrasim.errors import UserError
from tetrasim.sim.result import SCHEMA_VERSION, Result

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Refusal:
    """A target that was named and cannot run the model: the reason and the next step."""

    preset: str
    what: str
    where: str
    hint: str


@dataclass(frozen=True, slots=True)
class Document:
    """Results in the order in which the targets were named; `command` makes all of them again. `refusals`:
    targets without a result."""

    schema_version: str
    command: str
    results: tuple[Result, ...]
    refusals: tuple[Refusal, ...] = ()


def document(results: tuple[Result, ...], command: str = "", refusals: tuple[Refusal, ...] = ()) -> Document:
    """A document of the current schema version; without `command`, that of the first result."""
    return Document(SCHEMA_VERSION, command or results[0].provenance.command, results, refusals)


@cache
def adapter() -> TypeAdapter[Document]:
    """Validation and schema, both derived from the dataclasses (built once: it takes 20 ms)."""
    from pydantic import TypeAdapter

    return TypeAdapter(Document)


def parse(text: str | bytes, where: str) -> Document:
    """Read `report.json`.

    Raises:
        UserError: not JSON, another schema version, or a field that is missing or of the wrong type.
    """
    from pydantic import ValidationError

    try:
        found = adapter().validate_json(text)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(
            f"not a tetrasim report: {path}: {first['msg'].lower()}",
            where=where,
            hint="give a report.json that `tetrasim run` of this version wrote",
        ) from None
    if found.schema_version != SCHEMA_VERSION:
        raise UserError(
            f"schema version {found.schema_version}, this tetrasim reads {SCHEMA_VERSION}",
            where=where,
            hint="run it again with `tetrasim run --lock config.lock.yaml`",
        )
    return found
