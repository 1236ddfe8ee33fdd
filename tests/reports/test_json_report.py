"""report.json: the published schema is current, documents obey it, read back equal, and never vary."""

from __future__ import annotations

import json
from dataclasses import replace

import fake
import jsonschema
import pytest

from tetrasim.errors import UserError
from tetrasim.reports.document import document, parse
from tetrasim.reports.formats import report_json
from tetrasim.reports.formats.report_json import SCHEMA_FILE, schema
from tetrasim.sim.metric import Metric


def test_published_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema(), "write report_json.schema() to SCHEMA_FILE"


def test_document_obeys_the_schema_and_reads_back_equal() -> None:
    found = document((fake.result(), fake.result("pim/aim", validated=False)))
    text = report_json.render(found)
    jsonschema.Draft202012Validator(json.loads(schema())).validate(json.loads(text))
    assert parse(text, "here") == found
    assert report_json.render(parse(text, "here")) == text  # 120 and 120.0 are equal but not the same bytes


def test_schema_refuses_a_bare_number_where_a_metric_belongs() -> None:
    tree = json.loads(report_json.render(document((fake.result(),))))
    tree["results"][0]["latency"] = 3.0
    with pytest.raises(jsonschema.ValidationError, match="not of type 'object'"):
        jsonschema.validate(tree, json.loads(schema()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tree: tree["results"][0].pop("energy"), r"results\.0\.energy: field required"),
        (lambda tree: tree.update(schema_version="0.1"), "schema version 0.1"),
        (lambda tree: tree["results"][0]["latency"].update(value="fast"), "results.0.latency.value"),
    ],
)
def test_damaged_document_says_which_field(change: object, told: str) -> None:
    tree = json.loads(report_json.render(document((fake.result(),))))
    assert callable(change)
    change(tree)
    with pytest.raises(UserError, match=told):
        parse(json.dumps(tree), "report.json")


def test_not_a_number_is_refused_when_written() -> None:
    found = replace(fake.result(), latency=Metric(float("nan"), "ns"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_json.render(document((found,)))
