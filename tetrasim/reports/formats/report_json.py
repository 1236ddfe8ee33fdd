"""`report.json`: the document as JSON, byte for byte the same for the same inputs, and its JSON schema.

The schema is generated from the dataclasses of `sim/result.py` and published beside this file; a test
fails when it is not current.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tetrasim.reports.document import Document, adapter
from tetrasim.sim.result import SCHEMA_VERSION

FILE = "report.json"
SCHEMA_FILE = Path(__file__).parents[1] / "schema" / "report.schema.json"


def render(found: Document) -> str:
    """Field order of the dataclasses, shortest exact floats; NaN and infinity are refused (ValueError)."""
    # Read back once: a whole number in a field of type float is then 3.0 whether the result was computed or
    # came from the cache, and nothing is written that could not be read again.
    normal = adapter().validate_json(json.dumps(asdict(found), allow_nan=False))
    return json.dumps(asdict(normal), indent=1, ensure_ascii=False) + "\n"


def schema() -> str:
    """JSON Schema (draft 2020-12) of `report.json`."""
    body = adapter().json_schema(mode="serialization")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:tetrasim:report:{SCHEMA_VERSION}",
    }
    return json.dumps({**head, **body}, indent=1, ensure_ascii=False) + "\n"
