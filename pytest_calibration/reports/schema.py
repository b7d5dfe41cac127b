"""The JSON Schema of the JSON report, made from the dataclasses of ``reports.model``.

``python -m pytest_calibration.reports.schema`` prints the content of ``results-1.schema.json``.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, Final

import msgspec

from pytest_calibration.reports.model import FORMAT, Results

FILE: Final = "results-{format}.schema.json"
METRICS: Final = {
    "description": "every number by model, probe and metric, for programs that compare two files",
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}


def results_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what ``json_report`` writes.

    Every field is described by its entry under "Attributes" in the docstring of its class, and
    required: a report leaves no field out.
    """
    _, definitions = msgspec.json.schema_components([Results], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        _describe(definition)
    top = definitions.pop("Results")
    top["properties"]["metrics"] = METRICS
    top["required"].append("metrics")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:pytest-calibration:results:{FORMAT}",
        **top,
        "title": f"JSON report of pytest-calibration, format {FORMAT}",
        "$defs": dict(sorted(definitions.items())),
    }


def _describe(definition: dict[str, Any]) -> None:
    """Take the descriptions of a class and its fields from its docstring."""
    docstring = inspect.cleandoc(definition.pop("description"))
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5}.*)*)", docstring, re.MULTILINE)
    described = {
        name: re.sub(r"\bNone\b", "null", " ".join(text.split())) for name, text in entries
    }
    definition["description"] = docstring.splitlines()[0]
    for name, field in definition.get("properties", {}).items():
        field.pop("default", None)
        field["description"] = described[name].replace("``", "")
    if "properties" in definition:
        definition["required"] = list(definition["properties"])


def schema_text() -> str:
    """Return the schema as it is published."""
    return json.dumps(results_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
